// SPDX-License-Identifier: GPL-2.0

// A client of the Kubernetes container runtime interface: cri METHOD sends the request
// that it reads as JSON, cri RunPodSandbox for example, and prints the response.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"reflect"
	"time"

	"github.com/gogo/protobuf/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	_ "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func message(name string) any {
	t := proto.MessageType("runtime.v1." + name)
	if t == nil {
		log.Fatalf("there is no %s", name)
	}
	return reflect.New(t.Elem()).Interface()
}

func main() {
	log.SetFlags(0)
	method := os.Args[1]
	request, response := message(method+"Request"), message(method+"Response")
	if err := json.NewDecoder(os.Stdin).Decode(request); err != nil {
		log.Fatal(err)
	}
	conn, err := grpc.NewClient("unix:///run/containerd/containerd.sock",
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := conn.Invoke(ctx, "/runtime.v1.RuntimeService/"+method, request, response); err != nil {
		log.Fatal(err)
	}
	text, err := json.Marshal(response)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(text))
}

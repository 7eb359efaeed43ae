// SPDX-License-Identifier: GPL-2.0

package main

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/nri/pkg/api"
)

func TestValues(t *testing.T) {
	for _, c := range []struct{ file, value, want string }{
		{"pins.max", "16Mi", "16777216"},
		{"pins.max", "16M", "16000000"},
		{"pins.max", "1.5Gi", "1610612736"},
		{"pins.max", "4096", "4096"},
		{"pins.max", "0", "0"},
		{"pins.max", "1Pi", "1125899906842624"},
		{"pins.max", "max", "max"},
		{"pins.max", "16m", ""},
		{"pins.max", "16MB", ""},
		{"pins.max", "-1", ""},
		{"pins.max", "many", ""},
		{"pins.max", "", ""},
		{"pins.wait.max", "20000", "20000"},
		{"pins.wait.max", "inherit", "inherit"},
		{"pins.wait.max", "20ms", ""},
		{"pins.wait.max", "4294967296", ""},
		{"pins.steer", "block", "block"},
		{"pins.steer", "Block", ""},
		{"pins.revoke", "idle", "idle"},
		{"pins.memlock", "rlimit", "rlimit"},
		{"pins.migrate", "needed", "needed"},
		{"pins.most", "16Mi", ""},
	} {
		got, err := parse(c.file, c.value)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s=%q: %q, %v instead of %q", c.file, c.value, got, err, c.want)
		}
		if err != nil && !strings.Contains(err.Error(), c.file) {
			t.Errorf("%s=%q: the error does not say which: %v", c.file, c.value, err)
		}
	}
}

func file(t *testing.T, name, text string) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const someRules = `
namespaces:
  "*": {max: 64Mi}
  free: {}
  storage:
    default: {pins.max: 1Gi, pins.revoke: idle}
    max: 8Gi
`

// The unified settings of a container "app", and the limit of RLIMIT_MEMLOCK, if any
func TestContainers(t *testing.T) {
	type m = map[string]string
	for _, c := range []struct {
		name, namespace, kernel string
		annotations, unified    m
		memlock                 uint64
		err                     string
	}{
		{"no annotation", "free", "pins.max", nil, nil, 0, ""},
		{"of the pod", "free", "pins.max", m{"pins.max": "16Mi"},
			m{"pins.max": "16777216"}, 16 << 20, ""},
		{"as other plugins name it", "free", "pins.max", m{"pins.max/pod": "16Mi"},
			m{"pins.max": "16777216"}, 16 << 20, ""},
		{"of the container", "free", "pins.max",
			m{"pins.max": "16Mi", "pins.max/container.app": "8Mi", "pins.max/container.b": "4Mi"},
			m{"pins.max": "8388608"}, 8 << 20, ""},
		{"the others", "free", "pins.max pins.steer pins.wait.max pins.revoke",
			m{"pins.steer": "block", "pins.wait.max": "0", "pins.revoke": "idle"},
			m{"pins.steer": "block", "pins.wait.max": "0", "pins.revoke": "idle"}, 0, ""},
		{"what the kernel has not", "free", "pins.max", m{"pins.max": "max", "pins.revoke": "idle"},
			m{"pins.max": "max"}, 0, ""},
		{"a kernel with pins.memlock", "free", "pins.max pins.memlock", m{"pins.max": "16Mi"},
			m{"pins.max": "16777216", "pins.memlock": "max"}, 0, ""},
		{"RLIMIT_MEMLOCK is to apply", "free", "pins.max pins.memlock",
			m{"pins.max": "16Mi", "pins.memlock": "rlimit"},
			m{"pins.max": "16777216", "pins.memlock": "rlimit"}, 0, ""},
		{"a kernel without pins.memlock", "free", "pins.max",
			m{"pins.max": "16Mi", "pins.memlock": "max"},
			m{"pins.max": "16777216"}, 16 << 20, ""},
		{"only the container has a limit", "free", "pins.max pins.memlock",
			m{"pins.max/container.app": "8Mi", "pins.memlock": "max"},
			m{"pins.max": "8388608", "pins.memlock": "max"}, 0, ""},
		{"no controller", "free", "", m{"pins.max": "16Mi", "pins.steer": "block"}, nil, 16 << 20, ""},
		{"no controller, no limit", "free", "", m{"pins.max": "max"}, nil, 0, ""},
		{"default of the namespace", "storage", "pins.max pins.revoke", nil,
			m{"pins.max": "1073741824", "pins.revoke": "idle"}, 1 << 30, ""},
		{"more than the default", "storage", "pins.max pins.revoke", m{"pins.max": "2Gi"},
			m{"pins.max": "2147483648", "pins.revoke": "idle"}, 2 << 30, ""},
		{"more than the highest", "storage", "pins.max", m{"pins.max": "9Gi"}, nil, 0,
			"pins.max: 9Gi is more than 8589934592, the most in namespace storage"},
		{"no limit where there is a highest", "storage", "pins.max",
			m{"pins.max/container.app": "max"}, nil, 0, "is more than"},
		{"the highest is the default", "other", "pins.max", nil,
			m{"pins.max": "67108864"}, 64 << 20, ""},
		{"bad value", "free", "pins.max", m{"pins.max": "many"}, nil, 0, `pins.max: "many" is neither`},
		{"bad value of another container", "free", "pins.max", m{"pins.steer/container.b": "up"},
			nil, 0, "pins.steer"},
		{"no such setting", "free", "pins.max", m{"pins.most": "1"}, nil, 0, "pins.most"},
		{"no such scope", "free", "pins.max", m{"pins.max/app": "1"}, nil, 0, "pins.max/container.NAME"},
		{"what takes a privilege", "free", "pins.max", m{"pins.migrate": "needed"}, nil, 0,
			"only the rules"},
		{"pins without a limit", "free", "pins.max", m{"pins.memlock": "max"}, nil, 0,
			"needs a pins.max"},
		{"somebody else's", "free", "pins.max",
			m{"pins.example.org/max": "1", "example.org/pins.max": "x"}, nil, 0, ""},
	} {
		p := &plugin{config: filepath.Join(t.TempDir(), "config"), cgroup: t.TempDir()}
		file(t, p.config, someRules)
		for _, name := range strings.Fields(c.kernel) {
			file(t, filepath.Join(p.cgroup, "a.slice", name), "")
		}
		adjust, _, err := p.CreateContainer(context.Background(),
			&api.PodSandbox{Namespace: c.namespace, Annotations: c.annotations},
			&api.Container{Name: "app"})
		if err != nil || c.err != "" {
			if err == nil || c.err == "" || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v instead of %q", c.name, err, c.err)
			}
			continue
		}
		if got := adjust.GetLinux().GetResources().GetUnified(); !maps.Equal(got, c.unified) {
			t.Errorf("%s: %v instead of %v", c.name, got, c.unified)
		}
		var memlock uint64
		for _, r := range adjust.Rlimits {
			if memlock = r.Soft; r.Hard != r.Soft || r.Type != "RLIMIT_MEMLOCK" {
				t.Errorf("%s: %v", c.name, r)
			}
		}
		if memlock != c.memlock {
			t.Errorf("%s: RLIMIT_MEMLOCK %d instead of %d", c.name, memlock, c.memlock)
		}
	}
}

func TestPod(t *testing.T) {
	dir := t.TempDir()
	p := &plugin{cgroup: dir}
	files := []string{"", "kubepods", "kubepods/burstable", "kubepods/burstable/pod1"}
	for _, name := range files {
		file(t, filepath.Join(dir, name, "cgroup.subtree_control"), "")
	}
	file(t, filepath.Join(dir, "cgroup.controllers"), "cpu pins\n")
	file(t, filepath.Join(dir, "kubepods/burstable/pod1/pins.max"), "max\n")
	pod := &api.PodSandbox{
		Annotations: map[string]string{"pins.max": "16Mi", "pins.max/container.app": "8Mi"},
		Linux:       &api.LinuxPodSandbox{CgroupParent: "/kubepods/burstable/pod1"},
	}
	has := func(name, want string) {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !strings.HasPrefix(string(got), want) {
			t.Errorf("%s: %q, %v instead of %q", name, got, err, want)
		}
	}
	if err := p.RunPodSandbox(context.Background(), pod); err != nil {
		t.Error(err)
	}
	for _, name := range files {
		has(filepath.Join(name, "cgroup.subtree_control"), "+pins")
	}
	has("kubepods/burstable/pod1/pins.max", "16777216")
	// what is wrong with a container is said before the pod starts
	pod.Annotations["pins.max/container.app"] = "many"
	if p.RunPodSandbox(context.Background(), pod) == nil {
		t.Error("a bad value of a container is accepted")
	}
	pod.Annotations = map[string]string{"pins.memlock": "max"}
	if p.RunPodSandbox(context.Background(), pod) == nil {
		t.Error("a pod without any limit is accepted")
	}
	// who cannot be limited does not start
	pod.Annotations = map[string]string{"pins.max": "16Mi"}
	pod.Linux.CgroupParent = "/kubepods/burstable/pod2"
	if p.RunPodSandbox(context.Background(), pod) == nil {
		t.Error("a pod without its limit is accepted")
	}
}

func TestSlices(t *testing.T) {
	for parent, want := range map[string]string{
		"":                    "/",
		"/kubepods/pod1":      "/kubepods/pod1",
		"a-b.slice":           "/a.slice/a-b.slice",
		"/a.slice/a-b.slice":  "/a.slice/a-b.slice",
		"kubepods-pod1.slice": "/kubepods.slice/kubepods-pod1.slice",
	} {
		pod := &api.PodSandbox{Linux: &api.LinuxPodSandbox{CgroupParent: parent}}
		if got := (&plugin{}).podCgroup(pod); got != want {
			t.Errorf("%q: %q instead of %q", parent, got, want)
		}
	}
}

func TestConfig(t *testing.T) {
	name := filepath.Join(t.TempDir(), "config")
	for text, want := range map[string]string{
		"namespaces: {a: {max: many}}":                          "a: max: pins.max",
		"namespaces: {a: {default: {pins.most: 1}}}":            "a: default: pins.most",
		"namespaces: {a: {max: 1Mi, default: {pins.max: 2Mi}}}": "a: default: pins.max: it is more",
		"namespaces: {a: {maximum: 1Mi}}":                       "maximum",
		"namespaces: {a: {default: {pins.steer: up}}}":          "a: default: pins.steer",
		"namespace: {a: {default: {pins.steer: zone}}}":         "namespace",
	} {
		file(t, name, text)
		if _, err := readConfig(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	// then no pod starts, instead of one without a limit
	if (&plugin{config: name}).RunPodSandbox(context.Background(), &api.PodSandbox{}) == nil {
		t.Error("a pod starts though the rules cannot be read")
	}
}

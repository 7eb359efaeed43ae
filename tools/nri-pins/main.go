// SPDX-License-Identifier: GPL-2.0

// nri-pins limits the pinned memory of pods: it turns their annotations, and defaults of
// their namespaces, into settings of the cgroup controller pins. It is a plugin for NRI,
// the interface that containerd and CRI-O have for that.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"maps"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/nri/pkg/api"
	"github.com/containerd/nri/pkg/stub"
	"github.com/coreos/go-systemd/daemon"
	systemd "github.com/coreos/go-systemd/dbus"
	"github.com/godbus/dbus"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

const (
	limit   = "pins.max"
	memlock = "pins.memlock"
	migrate = "pins.migrate"
)

// What can be set, and the words that each takes
var words = map[string][]string{
	limit:           {"max"},
	"pins.wait.max": {"max", "inherit"},
	"pins.steer":    {"zone", "block"},
	"pins.revoke":   {"never", "idle"},
	migrate:         {"any", "needed"},
	memlock:         {"rlimit", "max"},
}

// By the name of the file; as the kernel takes them
type settings map[string]string

// Of a namespace
type rules struct {
	Default settings `json:"default"` // for what has no annotation
	Max     string   `json:"max"`     // the highest pins.max of a pod, and its default
}

type config struct {
	Namespaces map[string]rules `json:"namespaces"` // "*": those that are not named
}

type plugin struct {
	config string // the file, read for each pod
	cgroup string // where the hierarchy is mounted
}

// What the kernel takes for it. Sizes are quantities of Kubernetes: 16M is not 16Mi.
func parse(file, value string) (string, error) {
	allowed, known := words[file]
	if !known {
		return "", fmt.Errorf("%s: there is no such setting", file)
	}
	if slices.Contains(allowed, value) {
		return value, nil
	}
	switch file {
	case limit:
		size, err := resource.ParseQuantity(value)
		// 16m is a fraction of a byte, and most likely meant as 16M
		if err == nil && size.Sign() >= 0 && size.CmpInt64(size.Value()) == 0 {
			return strconv.FormatInt(size.Value(), 10), nil
		}
		return "", fmt.Errorf("%s: %q is neither a size, such as 16Mi, nor max", file, value)
	case "pins.wait.max":
		if _, err := strconv.ParseUint(value, 10, 32); err == nil {
			return value, nil
		}
		return "", fmt.Errorf("%s: %q is neither a number of microseconds, max nor inherit",
			file, value)
	}
	return "", fmt.Errorf("%s: %q is not %s", file, value, strings.Join(allowed, " or "))
}

// The number of bytes; no limit is more than any
func bytes(value string) uint64 {
	if n, err := strconv.ParseUint(value, 10, 64); err == nil {
		return n
	}
	return math.MaxUint64
}

func readConfig(file string) (*config, error) {
	c := &config{}
	if file == "" {
		return c, nil
	}
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.UnmarshalStrict(text, c)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for name, r := range c.Namespaces {
		if r.Max != "" {
			if r.Max, err = parse(limit, r.Max); err != nil {
				return nil, fmt.Errorf("%s: %s: max: %w", file, name, err)
			}
		}
		for key, value := range r.Default {
			if r.Default[key], err = parse(key, value); err != nil {
				return nil, fmt.Errorf("%s: %s: default: %w", file, name, err)
			}
		}
		if r.Max != "" && r.Default[limit] != "" && bytes(r.Default[limit]) > bytes(r.Max) {
			return nil, fmt.Errorf("%s: %s: default: %s: it is more than max",
				file, name, limit)
		}
		c.Namespaces[name] = r
	}
	return c, nil
}

// What a pod asks for or gets by default: in all, and which containers ask for more
// than that, by name. All of it is checked, so that a pod is refused before it starts.
func (c *config) settings(pod *api.PodSandbox) (settings, map[string]settings, error) {
	r, known := c.Namespaces[pod.Namespace]
	if !known {
		r = c.Namespaces["*"]
	}
	all, own := settings{}, map[string]settings{}
	if r.Max != "" {
		all[limit] = r.Max
	}
	maps.Copy(all, r.Default)
	// in this order pins.max/pod, which is the same as pins.max, wins
	for _, key := range slices.Sorted(maps.Keys(pod.Annotations)) {
		file, scope, scoped := strings.Cut(key, "/")
		container, ofContainer := strings.CutPrefix(scope, "container.")
		if !strings.HasPrefix(file, "pins.") {
			continue
		}
		if _, known := words[file]; !known && scoped && !ofContainer && scope != "pod" {
			continue // pins.example.org/something is somebody else's
		}
		value, err := parse(file, pod.Annotations[key])
		switch {
		case err != nil:
			return nil, nil, err
		case file == migrate:
			// it takes a privilege, for it is at the cost of others
			return nil, nil, fmt.Errorf("%s: only the rules of a namespace set it", key)
		case file == limit && r.Max != "" && bytes(value) > bytes(r.Max):
			return nil, nil, fmt.Errorf("%s: %s is more than %s, the most in namespace %s",
				key, pod.Annotations[key], r.Max, pod.Namespace)
		case ofContainer:
			if own[container] == nil {
				own[container] = settings{}
			}
			own[container][file] = value
		case !scoped || scope == "pod":
			all[file] = value
		default:
			return nil, nil, fmt.Errorf("%s: neither %s nor %s/container.NAME", key, file, file)
		}
	}
	some := limited(all)
	for _, s := range own {
		some = some || limited(s)
	}
	if all[memlock] == "max" && !some {
		return nil, nil, fmt.Errorf("%s: max needs a %s", memlock, limit)
	}
	return all, own, nil
}

func limited(s settings) bool {
	return s[limit] != "" && s[limit] != "max"
}

func (p *plugin) settings(pod *api.PodSandbox) (settings, map[string]settings, error) {
	c, err := readConfig(p.config)
	if err != nil {
		return nil, nil, err
	}
	return c.settings(pod)
}

func (p *plugin) hasController() bool {
	controllers, _ := os.ReadFile(path.Join(p.cgroup, "cgroup.controllers"))
	return slices.Contains(strings.Fields(string(controllers)), "pins")
}

// Whether cgroups have that file
func (p *plugin) has(file string) bool {
	found, _ := filepath.Glob(path.Join(p.cgroup, "*", file))
	return len(found) > 0
}

// The cgroup of the pod; the names of slices say where they are
func (p *plugin) podCgroup(pod *api.PodSandbox) string {
	parent := pod.GetLinux().GetCgroupParent()
	if slice, is := strings.CutSuffix(parent, ".slice"); is && !strings.Contains(slice, "/") {
		parent = ""
		for i, c := range slice + "-" {
			if c == '-' {
				parent = path.Join(parent, slice[:i]+".slice")
			}
		}
	}
	return path.Clean("/" + parent)
}

// Neither kubelet nor all runtimes enable the controller
func (p *plugin) enable(cgroup string) error {
	dir := p.cgroup
	for _, name := range append([]string{""}, strings.Split(cgroup, "/")[1:]...) {
		dir = path.Join(dir, name)
		err := os.WriteFile(path.Join(dir, "cgroup.subtree_control"), []byte("+pins"), 0)
		if err != nil {
			return err
		}
	}
	return nil
}

// A slice is systemd's, and what others do there it undoes
func askSystemd(ctx context.Context, slice, value string) error {
	bus, err := systemd.NewSystemConnectionContext(ctx)
	if err != nil {
		return err
	}
	defer bus.Close()
	return bus.SetUnitPropertiesContext(ctx, slice, true,
		systemd.Property{Name: "PinsAccounting", Value: dbus.MakeVariant(true)},
		systemd.Property{Name: "PinsMax", Value: dbus.MakeVariant(bytes(value))})
}

// Limits the pod as a whole, and lets its containers have limits
func (p *plugin) limitPod(ctx context.Context, cgroup, value string) error {
	if strings.HasSuffix(cgroup, ".slice") {
		err := askSystemd(ctx, path.Base(cgroup), value)
		if err == nil {
			return nil
		}
		log.Printf("%s: systemd does not set PinsMax, writing the file: %v", cgroup, err)
	}
	if err := p.enable(cgroup); err != nil || cgroup == "/" || value == "" {
		return err
	}
	return os.WriteFile(path.Join(p.cgroup, cgroup, limit), []byte(value), 0)
}

// RunPodSandbox refuses what cannot be granted, and limits the pod.
func (p *plugin) RunPodSandbox(ctx context.Context, pod *api.PodSandbox) error {
	all, own, err := p.settings(pod)
	if err == nil && p.hasController() && len(all)+len(own) > 0 {
		err = p.limitPod(ctx, p.podCgroup(pod), all[limit])
	}
	return say(err, pod, all)
}

// CreateContainer sets the limits of a container.
func (p *plugin) CreateContainer(_ context.Context, pod *api.PodSandbox, c *api.Container) (
	*api.ContainerAdjustment, []*api.ContainerUpdate, error) {
	all, own, err := p.settings(pod)
	if err == nil {
		maps.Copy(all, own[c.Name])
	}
	if all[memlock] == "max" && !limited(all) {
		err = fmt.Errorf("%s: max needs a %s", memlock, limit)
	}
	if err != nil {
		return nil, nil, say(err, pod, c.Name)
	}
	adjust := &api.ContainerAdjustment{}
	// With the controller it need not be in the way, without it is what there is
	if limited(all) && all[memlock] != "rlimit" {
		if all[memlock] = "max"; !p.has(memlock) {
			adjust.AddRlimit("RLIMIT_MEMLOCK", bytes(all[limit]), bytes(all[limit]))
		}
	}
	for file, value := range all {
		if p.has(file) {
			adjust.AddLinuxUnified(file, value)
		}
	}
	return adjust, nil, say(nil, pod, c.Name, adjust)
}

// Synchronize limits the pods that are there when the plugin starts.
func (p *plugin) Synchronize(ctx context.Context, pods []*api.PodSandbox,
	containers []*api.Container) ([]*api.ContainerUpdate, error) {
	var updates []*api.ContainerUpdate
	for _, pod := range pods {
		if p.RunPodSandbox(ctx, pod) != nil {
			continue // it is said, and the others need theirs
		}
		for _, c := range containers {
			if c.PodSandboxId != pod.Id {
				continue
			}
			adjust, _, err := p.CreateContainer(ctx, pod, c)
			if err == nil && adjust.Linux != nil {
				update := &api.ContainerUpdate{IgnoreFailure: true}
				update.SetContainerId(c.Id)
				for file, value := range adjust.Linux.Resources.Unified {
					update.AddLinuxUnified(file, value)
				}
				updates = append(updates, update)
			}
		}
	}
	_, err := daemon.SdNotify(false, daemon.SdNotifyReady)
	return updates, err
}

// Kubelet makes an event of the error. This is for the log.
func say(err error, pod *api.PodSandbox, what ...any) error {
	if err != nil {
		what = append(what, "refused:", err)
	}
	log.Print(pod.Namespace, "/", pod.Name, ": ", fmt.Sprintln(what...))
	return err
}

func main() {
	p := &plugin{}
	flag.StringVar(&p.config, "config", "/etc/nri-pins.yaml", "`file` with the rules of namespaces")
	flag.StringVar(&p.cgroup, "cgroup", "/sys/fs/cgroup", "where cgroups are mounted")
	flag.Parse()
	log.SetFlags(0)
	c, err := readConfig(p.config)
	if err != nil {
		log.Fatal(err)
	}
	if c.Namespaces["*"].Max == "" {
		log.Print("no max for namespaces that are not named: whoever makes pods there " +
			"chooses their limits")
	}
	if !p.hasController() {
		log.Print("no pins controller: limiting RLIMIT_MEMLOCK instead")
	}
	var name []stub.Option
	if os.Getenv(api.PluginNameEnvVar) == "" { // as the runtime has, if it starts us
		name = []stub.Option{stub.WithPluginName("pins"), stub.WithPluginIdx("20")}
	}
	s, err := stub.New(p, name...)
	if err == nil {
		err = s.Run(context.Background())
	}
	log.Fatal("the runtime has gone: ", err)
}

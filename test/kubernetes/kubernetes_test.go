// Package kubernetes checks the manifests of deploy/kubernetes. It is a module of its own, so that the packages of Kubernetes are
// no dependencies of nat64d.
package kubernetes

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const manifests = "../../deploy/kubernetes"

// cluster is what an overlay creates.
type cluster struct {
	namespaces  []core.Namespace
	configs     []core.ConfigMap
	services    []core.Service
	daemonSets  []apps.DaemonSet
	deployments []apps.Deployment
	monitors    []monitoring.ServiceMonitor
}

// build builds an overlay, and decodes each object into the type of its API without tolerating an unknown field.
func build(t *testing.T, overlay string) (c cluster) {
	t.Helper()
	objects, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(manifests, overlay))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects.Resources() {
		text, err := o.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		switch kind := o.GetApiVersion() + " " + o.GetKind(); kind {
		case "v1 Namespace":
			c.namespaces = decode(t, c.namespaces, text)
		case "v1 ConfigMap":
			c.configs = decode(t, c.configs, text)
		case "v1 Service":
			c.services = decode(t, c.services, text)
		case "apps/v1 DaemonSet":
			c.daemonSets = decode(t, c.daemonSets, text)
		case "apps/v1 Deployment":
			c.deployments = decode(t, c.deployments, text)
		case "monitoring.coreos.com/v1 ServiceMonitor":
			c.monitors = decode(t, c.monitors, text)
		default:
			t.Errorf("%s: unexpected object %s", overlay, kind)
		}
	}
	return c
}

func decode[T any](t *testing.T, list []T, text []byte) []T {
	t.Helper()
	var o T
	if err := yaml.UnmarshalStrict(text, &o); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
	return append(list, o)
}

func TestOverlays(t *testing.T) {
	for _, overlay := range []struct {
		name                  string
		daemonSets, monitored int
		target                int32 // of the DNS service
		policy                core.ServiceInternalTrafficPolicy
	}{
		{"daemonset", 1, 1, 1053, core.ServiceInternalTrafficPolicyLocal},
		{"gateway", 0, 1, 53, ""},
		{"kind", 1, 0, 1053, ""},
	} {
		t.Run(overlay.name, func(t *testing.T) {
			c := build(t, overlay.name)
			if len(c.namespaces) != 1 || len(c.configs) != 1 || len(c.daemonSets) != overlay.daemonSets ||
				len(c.deployments) != 1-overlay.daemonSets || len(c.monitors) != overlay.monitored {
				t.Fatalf("%d namespaces, %d ConfigMaps, %d DaemonSets, %d Deployments, %d ServiceMonitors",
					len(c.namespaces), len(c.configs), len(c.daemonSets), len(c.deployments), len(c.monitors))
			}
			var pod core.PodTemplateSpec
			if overlay.daemonSets == 1 {
				pod = c.daemonSets[0].Spec.Template
				checkDaemonSet(t, &c.daemonSets[0])
			} else {
				pod = c.deployments[0].Spec.Template
				checkDeployment(t, &c.deployments[0])
			}
			checkPod(t, &pod.Spec, c.configs[0].Name)
			checkServices(t, c, pod.Labels, overlay.target, overlay.policy)
		})
	}
}

// A rolling update replaces the pod of a node before it begins with the next one, and never needs two on a node.
func checkDaemonSet(t *testing.T, d *apps.DaemonSet) {
	t.Helper()
	u := d.Spec.UpdateStrategy
	if u.Type != apps.RollingUpdateDaemonSetStrategyType || u.RollingUpdate.MaxUnavailable.String() != "1" || u.RollingUpdate.MaxSurge.String() != "0" {
		t.Errorf("update strategy %+v", u)
	}
}

func checkDeployment(t *testing.T, d *apps.Deployment) {
	t.Helper()
	if s := d.Spec; s.Replicas == nil || *s.Replicas != 2 ||
		s.Strategy.RollingUpdate.MaxUnavailable.String() != "1" || s.Strategy.RollingUpdate.MaxSurge.String() != "0" {
		t.Errorf("replicas and strategy %+v", s)
	}
	p := d.Spec.Template.Spec
	if p.NodeSelector["nat64d/gateway"] != "true" || p.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution[0].TopologyKey != core.LabelHostname {
		t.Errorf("nodes %v, affinity %+v", p.NodeSelector, p.Affinity)
	}
}

func checkPod(t *testing.T, p *core.PodSpec, config string) {
	t.Helper()
	if !p.HostNetwork || p.HostPID || p.HostIPC || p.AutomountServiceAccountToken == nil || *p.AutomountServiceAccountToken ||
		!strings.HasPrefix(p.PriorityClassName, "system-") || len(p.Containers) != 1 || len(p.InitContainers) != 0 {
		t.Fatalf("pod %+v", p)
	}
	c := &p.Containers[0]
	checkPrivileges(t, c.SecurityContext)
	for path, probe := range map[string]*core.Probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || probe.HTTPGet.Port.String() != "metrics" {
			t.Errorf("the probe of %s is %+v", path, probe)
		}
	}
	if len(c.Ports) != 1 || c.Ports[0].Name != "metrics" || c.Ports[0].ContainerPort != 9464 {
		t.Errorf("ports %+v", c.Ports)
	}
	if _, limited := c.Resources.Limits[core.ResourceCPU]; limited {
		t.Error("a limit of the processor drops packets")
	}
	volumes := map[string]core.VolumeSource{}
	for _, v := range p.Volumes {
		volumes[v.Name] = v.VolumeSource
	}
	for _, m := range c.VolumeMounts {
		v := volumes[m.Name]
		switch m.MountPath {
		case "/etc/nat64d":
			if !m.ReadOnly || v.ConfigMap == nil || v.ConfigMap.Name != config {
				t.Errorf("%s: %+v", m.MountPath, v)
			}
		case "/run/nat64d":
			if v.HostPath == nil || v.HostPath.Path != "/run/nat64d" || *v.HostPath.Type != core.HostPathDirectoryOrCreate {
				t.Errorf("%s: %+v", m.MountPath, v)
			}
		default:
			t.Errorf("unexpected mount of %s", m.MountPath)
		}
	}
}

func checkPrivileges(t *testing.T, s *core.SecurityContext) {
	t.Helper()
	add := []core.Capability{"NET_ADMIN", "NET_RAW", "BPF", "NET_BIND_SERVICE"}
	if s == nil || *s.Privileged || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault ||
		!slices.Equal(s.Capabilities.Add, add) || !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) {
		t.Errorf("security context %+v", s)
	}
}

// Services select the pod and, in the same port of the container, what the monitor selects.
func checkServices(t *testing.T, c cluster, labels map[string]string, target int32, policy core.ServiceInternalTrafficPolicy) {
	t.Helper()
	for _, s := range c.services {
		for k, v := range s.Spec.Selector {
			if labels[k] != v {
				t.Errorf("service %s selects %s=%s, the pod has %q", s.Name, k, v, labels[k])
			}
		}
		switch s.Name {
		case "nat64d-metrics":
			for _, m := range c.monitors {
				for k, v := range m.Spec.Selector.MatchLabels {
					if s.Labels[k] != v {
						t.Errorf("the monitor selects %s=%s, the service has %q", k, v, s.Labels[k])
					}
				}
				if m.Spec.Endpoints[0].Port != s.Spec.Ports[0].Name || m.Namespace != s.Namespace {
					t.Errorf("the monitor reads port %s in %s", m.Spec.Endpoints[0].Port, m.Namespace)
				}
			}
		case "nat64d-dns":
			for _, p := range s.Spec.Ports {
				if p.Port != 53 || p.TargetPort.IntVal != target {
					t.Errorf("DNS port %+v, want 53 to %d", p, target)
				}
			}
			if got := s.Spec.InternalTrafficPolicy; policy != "" && (got == nil || *got != policy) {
				t.Errorf("internal traffic policy %v, want %s", got, policy)
			}
			if want := fmt.Sprintf("\"[::]:%d\"", target); !strings.Contains(c.configs[0].Data["nat64d.yaml"], want) {
				t.Errorf("DNS64 does not listen on %s", want)
			}
		default:
			t.Errorf("unexpected service %s", s.Name)
		}
	}
}

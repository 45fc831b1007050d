//go:build linux

package lab

import (
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
)

// Pods are namespaces behind a bridge of the gateway, like containers of a node.
const (
	podBridge  = "pods"
	podNetwork = "2001:db8:b0d::"
	podRouter  = podNetwork + "1"
)

// PodAddress returns the address of the i-th pod, counted from 0.
func PodAddress(i int) string { return fmt.Sprintf("%s%x", podNetwork, 0x10+i) }

// AddPod connects another namespace to a bridge of the gateway. Its only address is PodAddress(i), for the i-th call counted from 0,
// and it has a default route. Close removes it.
func (l *Lab) AddPod() (*Namespace, error) {
	i := l.pods
	if i == 0 {
		if err := l.bridgePods(); err != nil {
			return nil, fmt.Errorf("lab: bridge of the pods: %w", err)
		}
	}
	n, err := newNamespace(fmt.Sprintf("%s-%d-%d-p%d", namePrefix, os.Getpid(), sequence.Add(1), i))
	if err != nil {
		return nil, err
	}
	l.pods++
	l.namespaces = append(l.namespaces, n)
	port := fmt.Sprintf("pod%d", i)
	steps := []func() error{
		func() error { return l.cable(n, l.Gateway, port, 0) },
		func() error { return l.Gateway.join(port, podBridge) },
		func() error { return n.add("eth0", PodAddress(i)+"/64") },
		func() error { return n.route("eth0", "::/0", podRouter) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("lab: pod %d: %w", i, err)
		}
	}
	return n, nil
}

func (l *Lab) bridgePods() error {
	a := netlink.NewLinkAttrs()
	a.Name = podBridge
	if err := l.Gateway.links.LinkAdd(&netlink.Bridge{LinkAttrs: a}); err != nil {
		return err
	}
	if err := l.Gateway.SetUp(podBridge, true); err != nil {
		return err
	}
	return l.Gateway.add(podBridge, podRouter+"/64")
}

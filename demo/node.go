//go:build linux

package demo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"nat64d/lab"
	"nat64d/ops/control"
)

// The parameters of the demonstration on a node.
const (
	nodeDNS      = "fd00:64::53" // of the node's end of the pair
	nodeMapped   = "10.64.64.64" // in the pool4 of --v4 host
	nodePort     = "8080"        // that leads to a port of the second pod
	nodeDownload = 64 << 20      // from pod to pod, and after the kill
	nodeEndless  = 1 << 40       // not reached by the download that outlives nat64d
	nodeBefore   = 16 << 20      // received before the kill
	nodeRecovery = 15 * time.Second
)

var nodeScene = scene{
	clients: "p0, p1, c6",
	lines:   [3]string{"two pods and", "a host on the", "LAN behind"},
	middle:  "node",
	nics:    "nat64    nat64-v4",
	seenAs:  "all",
}

// onNode returns the demonstration of attach: host: the machine itself, pods behind its bridge and a LAN behind it use
// the nat64d that runs on it.
func (d *demo) onNode() (show, error) {
	var pods [2]*lab.Namespace
	for i := range pods {
		var err error
		if pods[i], err = d.lab.AddPod(); err != nil {
			return show{}, err
		}
	}
	stop, err := pods[1].ServeHTTP("[" + lab.PodAddress(1) + "]:80")
	if err != nil {
		return show{}, err
	}
	d.closers = append(d.closers, stop)
	before, err := d.inventory()
	if err != nil {
		return show{}, err
	}
	node := d.lab.Gateway
	const plain = "kernel alone, to compare: TCP down to "
	return show{
		steps: []demoStep{
			{plain + "the node", d.plain(node, lab.Down)},
			{plain + "a pod", d.plain(pods[0], lab.Down)},
			{"nat64d --v6 host --v4 host starts", d.start},
			{"on the node: ping, curl http://" + serverName + "/", d.visit(visitor{node, nodeDNS, d.dir})},
			{"in a pod: ping, curl http://" + serverName + "/", d.visit(visitor{pods[0], nodeDNS, d.dir})},
			{"on the LAN: ping, curl http://" + serverName + "/", d.visit(visitor{d.lab.Client, lab.Gateway6, d.dir})},
			{"TCP down to the node, through nat64d", d.through(node, lab.Down)},
			{"TCP down to a pod, through nat64d", d.through(pods[0], lab.Down)},
			{"pod to pod, by " + nodeMapped + ":" + nodePort, d.hairpin(pods[0])},
			{"kill -9 during a download to a pod, and start", d.survive(pods[0])},
		},
		config: d.nodeConfig(),
		flags:  []string{"--v6", "host", "--v4", "host"},
		nics:   [2]string{"nat64-in", "nat64-v4-in"},
		from:   pods[0], resolver: nodeDNS,
		check: func() error { return d.compare(before) },
	}, nil
}

func (d *demo) nodeConfig() string {
	text := fmt.Sprintf("interfaces: { v6: { address: %q } }\ndns64: { enabled: true, listen: [\"[%s]:53\", \"[%s]:53\"], upstreams: [%q] }\n",
		nodeDNS, nodeDNS, lab.Gateway6, lab.Server4)
	if d.memory {
		text += fmt.Sprintf("state: { dir: %q }\n", d.dir)
	}
	return text
}

// visit pings the server and fetches its page by name.
func (d *demo) visit(v visitor) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		within, cancel := context.WithTimeout(ctx, demoPings*time.Second)
		defer cancel()
		took, err := v.at.Ping(within, lab.Server4As6, 1, 56)
		if err != nil {
			return "", err
		}
		began := time.Now()
		_, err = v.fetch(ctx)
		return fmt.Sprintf("%.2f ms, page after %d ms", took.Seconds()*1e3, time.Since(began).Milliseconds()), err
	}
}

// hairpin downloads from the second pod through its IPv4 address, which nat64d translates back.
func (d *demo) hairpin(from *lab.Namespace) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		_, err := d.gateway.Load().client.AddBinding(ctx, control.BindingChange{
			Protocols: []string{"tcp"}, Client: "[" + lab.PodAddress(1) + "]:80", Mapped: nodeMapped + ":" + nodePort,
		})
		if err != nil {
			return "", err
		}
		return fetchSum(ctx, from, net.JoinHostPort("64:ff9b::"+nodeMapped, nodePort), nodeDownload)
	}
}

// survive kills nat64d during a download and starts it again. The connection must continue, since the state is kept.
func (d *demo) survive(from *lab.Namespace) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		if !d.memory {
			return "left out: no tmpfs", nil
		}
		t, err := startTransfer(ctx, from, demoTarget+demoHTTP)
		if err != nil {
			return "", err
		}
		defer t.close()
		if err := t.wait(ctx, nodeBefore); err != nil {
			return "", err
		}
		if err := d.gateway.Load().kill(); err != nil {
			return "", err
		}
		killed := t.received.Load()
		if err := d.launch(ctx); err != nil {
			return "", err
		}
		if err := t.wait(ctx, killed+nodeDownload); err != nil {
			return "", err
		}
		return fmt.Sprintf("TCP continues, pause %d ms", t.pause.Load()), nil
	}
}

// transfer is a running download of lab.Stream over one connection.
type transfer struct {
	conn     net.Conn
	received atomic.Int64
	pause    atomic.Int64 // the longest time without data, in milliseconds
	ended    chan struct{}
	err      error // of an ended transfer
}

// startTransfer starts a download that ends only by close or an error.
func startTransfer(ctx context.Context, from *lab.Namespace, address string) (*transfer, error) {
	c, err := from.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	t := &transfer{conn: c, ended: make(chan struct{})}
	go func() {
		defer close(t.ended)
		t.err = t.run(address)
	}()
	return t, nil
}

// run compares the data with what the server sends.
func (t *transfer) run(address string) error {
	if _, err := fmt.Fprintf(t.conn, "GET /stream/%d HTTP/1.1\r\nHost: %s\r\n\r\n", int64(nodeEndless), address); err != nil {
		return err
	}
	r, err := http.ReadResponse(bufio.NewReaderSize(t.conn, 1<<18), nil)
	if err != nil {
		return err
	}
	right := lab.Stream(nodeEndless)
	got, want := make([]byte, 1<<18), make([]byte, 1<<18)
	for last := time.Now(); ; {
		n, err := r.Body.Read(got)
		if err != nil {
			return err
		}
		if _, err := io.ReadFull(right, want[:n]); err != nil {
			return err
		}
		if !bytes.Equal(got[:n], want[:n]) {
			return fmt.Errorf("wrong data after %d bytes", t.received.Load())
		}
		now := time.Now()
		t.pause.Store(max(t.pause.Load(), now.Sub(last).Milliseconds()))
		t.received.Add(int64(n))
		last = now
	}
}

// wait returns when so many bytes have arrived.
func (t *transfer) wait(ctx context.Context, bytes int64) error {
	ctx, cancel := context.WithTimeout(ctx, nodeRecovery)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for t.received.Load() < bytes {
		select {
		case <-t.ended:
			return fmt.Errorf("the connection ended: %w", t.err)
		case <-ctx.Done():
			return fmt.Errorf("after %d bytes nothing arrives: %w", t.received.Load(), ctx.Err())
		case <-poll.C:
		}
	}
	return nil
}

func (t *transfer) close() {
	_ = t.conn.Close() // its data is not needed
	<-t.ended
}

// inventory returns what nat64d may change on the node; the rules of nftables only if nft is installed.
func (d *demo) inventory() ([]string, error) {
	lines, err := d.lab.Gateway.Inventory()
	if err != nil {
		return nil, err
	}
	if nft, err := exec.LookPath("nft"); err == nil {
		out, err := d.lab.Gateway.Output(context.Background(), nft, "list", "tables")
		if err != nil {
			return nil, fmt.Errorf("nft: %w: %s", err, out)
		}
		lines = append(lines, strings.Split(strings.TrimSpace(out), "\n")...)
	}
	return lines, nil
}

// compare returns an error if the node differs from an earlier inventory.
func (d *demo) compare(before []string) error {
	after, err := d.inventory()
	if err != nil {
		return err
	}
	var left []string
	for _, l := range after {
		if !slices.Contains(before, l) {
			left = append(left, l)
		}
	}
	if len(left) > 0 {
		return errors.New("nat64d has left behind: " + strings.Join(left, "; "))
	}
	return nil
}

//go:build linux && guest

package guest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// The first argument that makes the test binary a tool, which it is inside the guest, and the tools: echo servers, and a client
// that checks them.
const (
	toolArgument = "tool"
	toolServe    = "serve"
	toolCheck    = "check" // and the address of the servers
)

// toolPath is where the test binary is in the guest.
const toolPath = "/usr/local/bin/guest-test"

const echoPort = "7000"

func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != toolArgument {
		os.Exit(m.Run())
	}
	if err := runTool(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runTool(args []string) error {
	if len(args) == 2 && args[0] == toolCheck {
		return checkEcho(context.Background(), (&net.Dialer{}).DialContext, args[1])
	}
	if len(args) != 1 || args[0] != toolServe {
		return fmt.Errorf("tools are %s and %s ADDRESS", toolServe, toolCheck)
	}
	tcp, err := net.Listen("tcp4", ":"+echoPort)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp4", ":"+echoPort)
	if err != nil {
		return err
	}
	go echoUDP(udp)
	echoTCP(tcp)
	return nil
}

// echoTCP returns what it receives on each connection, until the listener is closed.
func echoTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(c, c) // the client reports what is missing
			_ = c.Close()
		}()
	}
}

func echoUDP(c net.PacketConn) {
	b := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = c.WriteTo(b[:n], from) // the client reports what is missing
		}
	}
}

// dial is net.Dialer.DialContext or that of a namespace.
type dial func(ctx context.Context, network, address string) (net.Conn, error)

// patience bounds each exchange; a guest on a busy machine is slow.
const patience = time.Minute

// checkEcho sends a megabyte over TCP and datagrams of several sizes, with and without fragments, and compares what returns.
func checkEcho(ctx context.Context, d dial, host string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	address := net.JoinHostPort(host, echoPort)
	c, err := d(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := exchange(c, 1<<20, io.ReadFull); err != nil {
		return fmt.Errorf("tcp: %w", err)
	}
	u, err := d(ctx, "udp", address)
	if err != nil {
		return err
	}
	defer u.Close()
	for _, size := range []int{1, 64, 1400, 4000} {
		if err := exchange(u, size, func(r io.Reader, b []byte) (int, error) { return r.Read(b) }); err != nil {
			return fmt.Errorf("udp, %d bytes: %w", size, err)
		}
	}
	return nil
}

// exchange sends size bytes and compares them with what read returns.
func exchange(c net.Conn, size int, read func(io.Reader, []byte) (int, error)) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	sent, got := make([]byte, size), make([]byte, size)
	for i := range sent {
		sent[i] = byte(i * 7 / 5)
	}
	written := make(chan error, 1)
	go func() {
		_, err := c.Write(sent)
		written <- err
	}()
	n, err := read(c, got)
	if err := errors.Join(err, <-written); err != nil {
		return fmt.Errorf("%d of %d bytes came back: %w", n, size, err)
	}
	if !bytes.Equal(sent, got[:n]) {
		return fmt.Errorf("other bytes came back")
	}
	return nil
}

//go:build linux

package guest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// monitor is a connection of the QEMU Monitor Protocol.
type monitor struct {
	conn    net.Conn
	decoder *json.Decoder
}

// answerWithin bounds the time until QEMU itself answers.
const answerWithin = time.Minute

func newMonitor(c net.Conn) (*monitor, error) {
	m := &monitor{c, json.NewDecoder(c)}
	_, err := m.call("qmp_capabilities", nil)
	return m, err
}

// call executes a command. It skips the greeting and events.
func (m *monitor) call(command string, arguments any) (json.RawMessage, error) {
	if err := m.conn.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return nil, err
	}
	request := struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return nil, fmt.Errorf("QEMU: %s: %w", command, err)
	}
	for {
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := m.decoder.Decode(&answer); err != nil {
			return nil, fmt.Errorf("QEMU: %s: %w", command, err)
		}
		if answer.Error != nil {
			return nil, fmt.Errorf("QEMU: %s: %s", command, answer.Error.Desc)
		}
		if answer.Return != nil {
			return answer.Return, nil
		}
	}
}

// Batch makes the guest receive frames together: those that arrived in an interval of the virtual clock. Zero delivers each at once.
func (g *Guest) Batch(interval time.Duration) error {
	for _, n := range []string{"n6", "n4"} {
		id := "batch-" + n
		if _, err := g.monitor.call("object-del", map[string]any{"id": id}); err != nil && interval == 0 {
			continue // there was none
		}
		if interval == 0 {
			continue
		}
		_, err := g.monitor.call("object-add", map[string]any{
			"qom-type": "filter-buffer", "id": id, "netdev": n, "queue": "tx", "interval": interval.Microseconds(),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// WaitSuspended waits until the guest has suspended itself to memory.
func (g *Guest) WaitSuspended(ctx context.Context) error {
	for {
		answer, err := g.monitor.call("query-status", nil)
		if err != nil {
			return err
		}
		var state struct{ Status string }
		if err := json.Unmarshal(answer, &state); err != nil || state.Status == "suspended" {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the guest is %s, not suspended: %w", state.Status, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Wake ends a suspension of the guest.
func (g *Guest) Wake() error {
	_, err := g.monitor.call("system_wakeup", nil)
	return err
}

// Instructions are counts of executed instructions.
type Instructions struct {
	Kernel, User uint64
	// Repeated counts the bytes that string instructions with a REP prefix have moved after their first iteration.
	Repeated uint64
}

// Total returns the number of instructions, in which a string instruction counts once.
func (i Instructions) Total() float64 { return float64(i.Kernel + i.User) }

// Instructions returns what the guest has executed since it was started with Options.Count.
func (g *Guest) Instructions() (i Instructions, err error) {
	if g.counter == nil {
		return i, errors.New("guest: does not count instructions: it was started without Count")
	}
	if err := g.counter.SetDeadline(time.Now().Add(answerWithin)); err != nil {
		return i, err
	}
	if _, err := g.counter.Write([]byte{0}); err != nil {
		return i, err
	}
	var b [24]byte
	if _, err := io.ReadFull(g.counter, b[:]); err != nil {
		return i, fmt.Errorf("guest: count of instructions: %w", err)
	}
	word := func(n int) uint64 { return binary.NativeEndian.Uint64(b[8*n:]) }
	return Instructions{Kernel: word(0), User: word(1), Repeated: word(2)}, nil
}

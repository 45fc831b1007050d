package control

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"nat64d/linux/syscalls"
)

// peer is the process at the other end of a connection, with the credentials that it had when it connected. The zero
// value is an unknown process.
type peer struct {
	pid    int // 0: unknown, or in another PID namespace
	uid    uint32
	groups []uint32 // the effective one and the supplementary ones
	known  bool
	gate   *gate // nil: the client may do everything
}

// peerOf returns the client of a unix socket connection.
func peerOf(c net.Conn) (p peer) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return peer{}
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return peer{}
	}
	_ = raw.Control(func(fd uintptr) { // fails only on a closed connection
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return
		}
		groups, _ := syscalls.PeerGroups(int(fd)) // before Linux 4.13, only the effective group counts
		p = peer{pid: int(cred.Pid), uid: cred.Uid, groups: append(groups, cred.Gid), known: true}
	})
	return p
}

// String returns the user for a message.
func (p *peer) String() string {
	if name := p.user(); name != "" {
		return fmt.Sprintf("user %s (uid %d)", name, p.uid)
	}
	return fmt.Sprintf("uid %d", p.uid)
}

// user returns the name of the user, or "" if there is none.
func (p *peer) user() string {
	u, err := user.LookupId(strconv.FormatUint(uint64(p.uid), 10))
	if err != nil {
		return ""
	}
	return u.Username
}

// attrs returns the attributes of the client for the log. A process can change its command's name.
func (p *peer) attrs() []slog.Attr {
	if !p.known {
		return nil
	}
	command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.pid)) // the process may have ended
	return []slog.Attr{
		slog.Uint64("uid", uint64(p.uid)), slog.String("user", p.user()), slog.Int("pid", p.pid),
		slog.String("command", strings.TrimSpace(string(command))),
	}
}

// peerKey is the key of the client, a *peer, in the context of a request.
type peerKey struct{}

// client returns the client of a request. It is unknown unless Serve received the request.
func client(r *http.Request) *peer {
	if p, ok := r.Context().Value(peerKey{}).(*peer); ok {
		return p
	}
	return &peer{}
}

// withPeer adds the client to the context of the requests of its connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, &c.(*conn).peer)
}

// gate decides what clients may do: readers is the number of the group that may read, and changers that of the group that may
// also change. Root and the daemon's own user may do both.
type gate struct {
	readers, changers uint32
	changersName      string // "": no such group
}

// noGroup is an invalid group number (see chown(2)).
const noGroup = ^uint32(0)

func (g *gate) mayChange(p *peer) bool {
	return p.known && (p.uid == 0 || int(p.uid) == os.Geteuid() || slices.Contains(p.groups, g.changers))
}

func (g *gate) mayRead(p *peer) bool {
	return g.mayChange(p) || p.known && slices.Contains(p.groups, g.readers)
}

// captureRefusal returns why a client may not see what packets contain, or nil.
func (g *gate) captureRefusal(p *peer) *Error {
	if g == nil || g.mayChange(p) {
		return nil
	}
	who, what := g.allowed()
	return &Error{Message: fmt.Sprintf("%v may read, but only %s may capture what packets contain; trace shows their headers", p, who), Hint: what}
}

// allowed returns a phrase for the clients that may do everything, and what others can do.
func (g *gate) allowed() (who, what string) {
	who, what = "root", "run nat64ctl as root (sudo)"
	if g.changersName != "" {
		who += " and the group " + g.changersName
		what += ", or add the user to the group " + g.changersName
	}
	return who, what
}

// refusal returns why a client may not make a request, or nil. Every request that changes something is a POST.
func (g *gate) refusal(p *peer, method string) *Error {
	reads := method == http.MethodGet || method == http.MethodHead
	if g == nil || g.mayChange(p) || reads && g.mayRead(p) {
		return nil
	}
	who, what := g.allowed()
	if g.mayRead(p) {
		return &Error{Message: fmt.Sprintf("%v may read, but only %s may change", p, who), Hint: what}
	}
	return &Error{Message: fmt.Sprintf("%v may not use this socket, only %s and the group of api.read_group", p, who), Hint: what}
}

// permitted returns a handler that refuses requests that the client may not make. It logs at most one refusal a second, so
// that a client without rights cannot fill the log.
func permitted(h http.Handler, log *slog.Logger) http.Handler {
	logged := rate.NewLimiter(rate.Every(time.Second), 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := client(r)
		e := p.gate.refusal(p, r.Method)
		if e == nil {
			h.ServeHTTP(w, r)
			return
		}
		if logged.Allow() {
			log.LogAttrs(r.Context(), slog.LevelWarn, "request forbidden", append(p.attrs(), slog.String("request", r.URL.Path))...)
		}
		refuse(w, http.StatusForbidden, e)
	})
}

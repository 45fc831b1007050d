package control_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nat64d/ops/control"
)

// credentials are those of a client.
type credentials struct {
	uid, gid uint32
	groups   []uint32
}

const nobody = 65534

// connectTo is set in a process of this test that connects the socket that it has inherited. It holds the path.
const connectTo = "CONTROL_TEST_CONNECT_TO"

// inherited is the first file descriptor of exec.Cmd.ExtraFiles.
const inherited = 3

// TestConnect is the program of connectAs.
func TestConnect(t *testing.T) {
	path := os.Getenv(connectTo)
	if path == "" {
		return
	}
	if err := unix.Connect(inherited, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
}

// connectAs connects to a control socket with other credentials. They are those of a process that has ended when the function
// returns.
func connectAs(path string, as credentials) (net.Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestConnect$") // another user may not search the folder of the binary
	cmd.Env = append(os.Environ(), connectTo+"="+path, "GORACE=atexit_sleep_ms=0")
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: as.uid, Gid: as.gid, Groups: as.groups}}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return net.FileConn(f)
}

// ask sends a request on a new connection with other credentials.
func ask(t *testing.T, path string, as credentials, method, url, body string) (status int, e control.Error) {
	t.Helper()
	conn, err := connectAs(path, as)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://nat64d"+url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		if err := json.NewDecoder(answer.Body).Decode(&e); err != nil {
			t.Fatal(err)
		}
	}
	return answer.StatusCode, e
}

// locked is a buffer that a server and a test may use at the same time.
type locked struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.String()
}

// Groups that exist on every Linux machine, with their numbers.
const (
	changers, readers       = "daemon", "bin"
	changersGID, readersGID = 1, 2
)

// serveGroups serves a backend to both groups, and returns the socket and the log.
func serveGroups(t *testing.T) (path string, text *locked) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root may take other credentials")
	}
	dir, err := os.MkdirTemp("", "nat64d") // every directory above it permits the access of any user, unlike those of t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	l, err := control.Listen(path, changers)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AllowReaders(readers); err != nil {
		t.Fatal(err)
	}
	text = &locked{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- control.Serve(ctx, l, control.NewServer(&memory{}, nil, slog.New(slog.NewTextHandler(text, nil))))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return path, text
}

func TestServePermitsByCredentials(t *testing.T) {
	t.Parallel()
	path, _ := serveGroups(t)
	many := []uint32{readersGID}
	for g := range uint32(100) {
		many = append(many, 10_000+g)
	}
	for _, c := range []struct {
		name         string
		as           credentials
		read, change int
	}{
		{"root", credentials{}, 200, 200},
		{"group", credentials{uid: nobody, gid: changersGID}, 200, 200},
		{"supplementary group", credentials{nobody, nobody, []uint32{changersGID}}, 200, 200},
		{"read group", credentials{uid: nobody, gid: readersGID}, 200, 403},
		{"supplementary read group", credentials{nobody, nobody, []uint32{readersGID}}, 200, 403},
		{"read group among many", credentials{nobody, nobody, many}, 200, 403},
		{"root's group alone", credentials{uid: nobody, gid: 0}, 403, 403},
		{"nobody", credentials{uid: nobody, gid: nobody}, 403, 403},
	} {
		read, _ := ask(t, path, c.as, "GET", "/v1/version", "")
		change, e := ask(t, path, c.as, "POST", "/v1/pause", "")
		if read != c.read || change != c.change {
			t.Errorf("%s: read %d, change %d; want %d, %d", c.name, read, change, c.read, c.change)
		}
		if change == 403 && (!strings.Contains(e.Message, "(uid 65534)") || !strings.Contains(e.Hint, "group "+changers)) {
			t.Errorf("%s: refused with %+v", c.name, e)
		}
	}
}

func TestServeLogsClient(t *testing.T) {
	t.Parallel()
	path, text := serveGroups(t)
	as := credentials{uid: nobody, gid: changersGID}
	if status, e := ask(t, path, as, "POST", "/v1/pause", ""); status != 200 {
		t.Fatal(status, e)
	}
	as.gid = readersGID
	began := time.Now()
	for range 20 {
		ask(t, path, as, "POST", "/v1/pause", "")
	}
	got := text.String()
	for _, want := range []string{`msg="request done"`, "request=/v1/pause", "uid=65534 user=nobody", "command="} {
		if !strings.Contains(got, want) {
			t.Errorf("the log lacks %s:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "request forbidden"); n < 1 || n > 2+int(time.Since(began).Seconds()) {
		t.Errorf("%d of 20 refusals are logged, want one a second:\n%s", n, got)
	}
}

func TestAllowReadersRefusesUnknownGroup(t *testing.T) {
	t.Parallel()
	l, err := control.Listen(filepath.Join(t.TempDir(), "s"), "")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.AllowReaders("no-such-group-here"); err == nil || !strings.Contains(err.Error(), "no-such-group-here") {
		t.Errorf("error is %v", err)
	}
}

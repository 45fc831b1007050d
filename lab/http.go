//go:build linux

package lab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"time"
)

// copyBuffer is large enough that copying costs few system calls.
const copyBuffer = 256 << 10

// Transfer is a finished HTTP transfer.
type Transfer struct {
	Bytes int64
	Sum   string        // SHA-256 of the received bytes, in hexadecimal
	Took  time.Duration // from the request to the last byte
}

// Rate returns bits per second.
func (t Transfer) Rate() float64 { return float64(t.Bytes) * 8 / t.Took.Seconds() }

// Stream returns size pseudo-random bytes, the same in every call.
func Stream(size int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{}), size)
}

// Sum returns the SHA-256 of Stream(size), in hexadecimal.
func Sum(size int64) string {
	h := sha256.New()
	mustCopy(h, Stream(size))
	return hex.EncodeToString(h.Sum(nil))
}

// mustCopy copies between a generator and a hash, neither of which fails.
func mustCopy(h hash.Hash, r io.Reader) {
	if _, err := io.CopyBuffer(h, r, make([]byte, copyBuffer)); err != nil {
		panic(err)
	}
}

// Greeting is the line that a server of ServeHTTP returns for its root.
const Greeting = "hello from an IPv4-only host"

// ServeHTTP serves on an address in the namespace until stop is called: GET / answers with Greeting, GET /stream/N with
// Stream(N), and PUT /sum with the SHA-256 of the body.
func (n *Namespace) ServeHTTP(address string) (stop func() error, err error) {
	l, err := n.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, Greeting) })
	mux.HandleFunc("GET /stream/{size}", serveStream)
	mux.HandleFunc("PUT /sum", serveSum)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	return func() error {
		if err := s.Close(); err != nil {
			return err
		}
		if err := <-done; err != http.ErrServerClosed {
			return err
		}
		return nil
	}, nil
}

func serveStream(w http.ResponseWriter, r *http.Request) {
	size, err := strconv.ParseInt(r.PathValue("size"), 10, 64)
	if err != nil || size < 0 {
		http.Error(w, "the path must be /stream/ and a number of bytes", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	w.Header().Set("Content-Type", "application/octet-stream")
	// Write fails if the client has closed the connection; then there is no one to report it to.
	_, _ = io.CopyBuffer(w, struct{ io.Reader }{Stream(size)}, make([]byte, copyBuffer))
}

func serveSum(w http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	if _, err := io.CopyBuffer(h, r.Body, make([]byte, copyBuffer)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, hex.EncodeToString(h.Sum(nil)))
}

// Download fetches Stream(size) from a server that ServeHTTP started at address.
func (n *Namespace) Download(ctx context.Context, address string, size int64) (Transfer, error) {
	start := time.Now()
	r, err := n.do(ctx, http.MethodGet, "http://"+address+"/stream/"+strconv.FormatInt(size, 10), nil, 0)
	if err != nil {
		return Transfer{}, err
	}
	defer r.Body.Close()
	h := sha256.New()
	got, err := io.CopyBuffer(h, r.Body, make([]byte, copyBuffer))
	if err != nil {
		return Transfer{}, fmt.Errorf("download from %s: after %d of %d bytes: %w", address, got, size, err)
	}
	return Transfer{Bytes: got, Sum: hex.EncodeToString(h.Sum(nil)), Took: time.Since(start)}, nil
}

// Upload sends Stream(size) to a server that ServeHTTP started at address. The server computes the sum.
func (n *Namespace) Upload(ctx context.Context, address string, size int64) (Transfer, error) {
	start := time.Now()
	r, err := n.do(ctx, http.MethodPut, "http://"+address+"/sum", Stream(size), size)
	if err != nil {
		return Transfer{}, err
	}
	defer r.Body.Close()
	sum, err := io.ReadAll(io.LimitReader(r.Body, 2*sha256.Size))
	if err != nil {
		return Transfer{}, fmt.Errorf("upload to %s: %w", address, err)
	}
	return Transfer{Bytes: size, Sum: string(sum), Took: time.Since(start)}, nil
}

func (n *Namespace) do(ctx context.Context, method, url string, body io.Reader, size int64) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	q.ContentLength = size
	c := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return n.Dial(ctx, network, address)
		},
		DisableKeepAlives: true, // one connection a transfer, closed with it
		WriteBufferSize:   copyBuffer,
		ReadBufferSize:    copyBuffer,
	}}
	r, err := c.Do(q)
	if err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK {
		_ = r.Body.Close() // the status is sufficient
		return nil, fmt.Errorf("%s %s: %s", method, url, r.Status)
	}
	return r, nil
}

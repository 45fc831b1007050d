//go:build linux

package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

const (
	rereadEvery = 2 * time.Second    // interval of looking at the files of a certificate
	expiresSoon = 3 * 24 * time.Hour // time before its expiry from which the status warns of it
)

// certificate is the certificate of DNS64 over TLS. It is read again after a reload and when its files change, so that a
// renewal needs no restart. If that fails, the previous one stays in use. It is safe for concurrent use.
type certificate struct {
	chain, key string // paths
	log        *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate // nil: none was read yet
	seen    [2]fs.FileInfo   // the files at the last attempt to read them
	failed  error            // result of that attempt
}

// load reads the files. It logs a new failure, and a certificate that replaces another one.
func (c *certificate) load() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = c.stat()
	pair, err := tls.LoadX509KeyPair(c.chain, c.key)
	if err != nil {
		err = fmt.Errorf("dns64.tls_certificate %s, dns64.tls_key %s: %w", c.chain, c.key, err)
		if errors.Is(err, fs.ErrPermission) {
			err = fmt.Errorf("%w: nat64d must be able to read the files without CAP_DAC_OVERRIDE, in the folders where they were at the start", err)
		}
		if c.current != nil && (c.failed == nil || c.failed.Error() != err.Error()) {
			c.log.Warn("cannot read the certificate of DNS64, keeping the previous one", "error", err)
		}
		c.failed = err
		return err
	}
	if c.current != nil && !c.current.Leaf.Equal(pair.Leaf) {
		c.log.Info("DNS64 has a new certificate", "file", c.chain, "expires", pair.Leaf.NotAfter)
	}
	c.current, c.failed = &pair, nil
	return nil
}

// stat returns the state of the files, nil for one that cannot be accessed.
func (c *certificate) stat() (state [2]fs.FileInfo) {
	for i, path := range []string{c.chain, c.key} {
		if info, err := os.Stat(path); err == nil { // otherwise reading it reports the reason
			state[i] = info
		}
	}
	return state
}

// changed reports whether a file is not the one that was read. Renewals replace files, or the links to them.
func (c *certificate) changed() bool {
	now := c.stat()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, was := range c.seen {
		is := now[i]
		if (was == nil) != (is == nil) || was != nil && (!os.SameFile(was, is) || was.ModTime() != is.ModTime() || was.Size() != is.Size()) {
			return true
		}
	}
	return false
}

// watch reads the files again when they change, until ctx is done.
func (c *certificate) watch(ctx context.Context) error {
	tick := time.NewTicker(rereadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if c.changed() {
				_ = c.load() // it logs a failure, and the status shows it
			}
		}
	}
}

// config returns the TLS configuration, whose certificate is always the current one.
func (c *certificate) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, // RFC 8310 section 9 with RFC 9325 section 3.1.1
		NextProtos: []string{"dot"},  // RFC 7858, in the registry of ALPN; clients need not offer it
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.current, nil
		},
	}
}

// warnings returns sentences about a certificate that clients refuse, or soon will, or that could not be read again.
func (c *certificate) warnings() (ws []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		return nil // DNS64 does not listen yet, and the reason is shown with that
	}
	if c.failed != nil {
		ws = append(ws, "DNS64 keeps its previous certificate: "+c.failed.Error())
	}
	switch until := c.current.Leaf.NotAfter; {
	case time.Now().After(until):
		ws = append(ws, fmt.Sprintf("the certificate of DNS64 in %s expired on %s: clients refuse it; renew it", c.chain, until.Format(time.RFC3339)))
	case time.Until(until) < expiresSoon:
		ws = append(ws, fmt.Sprintf("the certificate of DNS64 in %s expires on %s; renew it", c.chain, until.Format(time.RFC3339)))
	}
	return ws
}

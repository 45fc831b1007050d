//go:build long

package test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"nat64d/lab"
)

// overSocket returns the address of a TCP server on the loopback interface that passes requests to a unix socket: the browser is
// not in the gateway's namespace.
func overSocket(t *testing.T, path string) string {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "localhost"})
	proxy.FlushInterval = -1
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	return server.URL
}

// browser returns the context of a page in headless Chromium, and a function that returns its errors so far.
func browser(t *testing.T) (ctx context.Context, complaints func() []string) {
	t.Helper()
	path, _ := tool(t, "chromium-headless-shell")
	sys := filepath.Join(cache(t), "sys/usr")
	if unpacked := filepath.Join(sys, "lib/chromium/chromium-headless-shell"); strings.HasPrefix(path, sys) {
		path = unpacked // the script knows only where the package installs it
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox)
	libraries, _ := filepath.Glob(filepath.Join(sys, "lib/*-linux-gnu*")) // the pattern is well-formed
	for _, l := range libraries {
		options = append(options, chromedp.Env("LD_LIBRARY_PATH="+l+":"+l+"/pulseaudio"))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	messages := chromedp.Console(ctx)
	var mu sync.Mutex
	var list []string
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.IsException() || m.Type == chromedp.ConsoleError {
				mu.Lock()
				list = append(list, m.String())
				mu.Unlock()
			}
		}
	}()
	return ctx, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return list
	}
}

// The status page shows the running gateway in a browser, wide and on a phone, light and dark, and shows when the gateway is gone. With
// SCREENSHOTS its pictures are stored there.
func TestLongStatusPage(t *testing.T) {
	l := network(t, lab.Options{})
	serveHTTP(t, l)
	socket := filepath.Join(t.TempDir(), "web.sock")
	g := startConfig(t, l, "pool4: [{ address: 198.51.100.7, ports: 7000-7999 }]\nweb: { listen: 'unix:"+socket+"' }\n")
	ctx, complaints := browser(t)
	page := overSocket(t, socket)

	run := func(what string, actions ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, actions...); err != nil {
			t.Fatalf("%s: %v; the page complains: %q", what, err, complaints())
		}
	}
	shows := func(expression string) chromedp.Action[chromedp.Void] {
		return chromedp.Poll[chromedp.Void](expression, chromedp.WithPollingInterval(100*time.Millisecond), chromedp.WithPollingTimeout(20*time.Second))
	}
	run("opening", chromedp.Navigate(page), shows(`document.getElementById("state").textContent === "ready"`))
	serveEcho(t, l)
	checkPing(t, l)
	checkConnections(t, g, 200)
	loading, end := context.WithCancel(t.Context())
	var loads sync.WaitGroup
	loads.Go(func() {
		for loading.Err() == nil {
			_, _ = l.Client.Download(loading, target+":80", 1<<30) // the page shows whether packets flow
		}
	})
	defer loads.Wait()
	defer end()
	run("a download",
		shows(`document.getElementById("link6").textContent === "`+l.NIC6+`" && document.getElementById("link4").textContent === "`+l.NIC4+`"`),
		shows(`document.getElementById("pool4").textContent.includes("198.51.100.7")`),
		shows(`document.getElementById("clients").tBodies[0].rows.length === 1 && document.getElementById("clients").textContent.includes("`+lab.Client6+`")`),
		shows(`Number(document.getElementById("sessions").textContent) > 200`),
		shows(`document.getElementById("rate4to6").textContent.includes("Mbit/s") || document.getElementById("rate4to6").textContent.includes("Gbit/s")`),
		shows(`document.querySelectorAll("#workers .bar").length >= 2 && !document.getElementById("workers").textContent.includes("NaN")`),
		shows(`document.querySelector("#chart .line").getAttribute("d").includes("L")`),
	)
	for _, screen := range []struct {
		name          string
		width, height int64
	}{{"wide", 1280, 1300}, {"phone", 390, 2400}} {
		for _, scheme := range []string{"light", "dark"} {
			name := screen.name + "-" + scheme
			_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
				Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
			})
			if err != nil {
				t.Fatal(err)
			}
			run(name, chromedp.EmulateViewport(screen.width, screen.height))
			overflow, err := chromedp.Run(ctx, chromedp.Evaluate[int](`document.documentElement.scrollWidth - window.innerWidth`))
			if err != nil {
				t.Fatal(err)
			}
			picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
			if err != nil {
				t.Fatal(err)
			}
			if overflow > 0 {
				t.Errorf("%s: the page is %d pixels wider than the screen", name, overflow)
			}
			if dir := os.Getenv("SCREENSHOTS"); dir != "" {
				if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
					t.Error(err)
				}
			}
		}
	}
	end()
	loads.Wait()
	g.must("pause")
	run("a pause", shows(`document.getElementById("state").textContent === "paused"`))
	g.must("resume")
	if list := complaints(); len(list) > 0 {
		t.Errorf("the page complains: %q", list)
	}
	g.stop()
	run("a stop", shows(`document.getElementById("state").textContent === "no answer"`))
}

//go:build linux

package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"nat64d/daemon"
)

// service is what runs until the process is asked to end.
type service interface {
	Run(context.Context) error
	Reload()
	Logger() *slog.Logger
}

// serve makes a service and runs it until ctx ends. SIGHUP has it read its configuration again.
func serve[S service](ctx context.Context, o daemon.Options, newService func(daemon.Options) (S, error)) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP) // first: without it a SIGHUP would end the process, and leave the guard behind
	s, err := newService(o)
	if err != nil {
		return err
	}
	slog.SetDefault(s.Logger()) // libraries write there, by way of package log, too
	go func() {
		for range hangup {
			s.Reload()
		}
	}()
	return s.Run(ctx)
}

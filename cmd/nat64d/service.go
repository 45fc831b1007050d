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

// service is a task that runs until the process ends.
type service interface {
	Run(context.Context) error
	Reload()
	Summarize()
	Logger() *slog.Logger
}

// serve creates a service and runs it until ctx is done. On SIGHUP it calls Reload, on SIGUSR1 Summarize.
func serve[S service](ctx context.Context, o daemon.Options, newService func(daemon.Options) (S, error)) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR1) // first, because without it they would end the process and leave the guard installed
	s, err := newService(o)
	if err != nil {
		return err
	}
	slog.SetDefault(s.Logger()) // libraries write there, by way of package log, too
	go func() {
		for signal := range signals {
			if signal == syscall.SIGUSR1 {
				s.Summarize()
			} else {
				s.Reload()
			}
		}
	}()
	return s.Run(ctx)
}

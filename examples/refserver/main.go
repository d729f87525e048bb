// Command refserver is a small cloud controller built with drover: a model for host authors, and a thing to try. Unmodified
// CloudStack clients drive it.
//
//	go run ./examples/refserver
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/drover-cloud/drover/examples/refserver/server"
)

//go:embed seed.json
var seed []byte

func main() { os.Exit(run()) }

const badConfig = 78 // EX_CONFIG of sysexits.h

func run() int {
	cfg, err := server.Parse(os.Args[1:], os.Getenv, seed, os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return tell(err)
	}
	cfg.Env.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	slog.SetDefault(cfg.Env.Logger)
	if len(cfg.FromEnv) > 0 {
		slog.Info("refserver: set by the environment", "variables", strings.Join(cfg.FromEnv, " "))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s, err := server.New(ctx, cfg)
	if err != nil {
		return tell(err)
	}
	cfg.Env.Defaults().Go("second signal", func() {
		<-ctx.Done()
		again := make(chan os.Signal, 1)
		signal.Notify(again, os.Interrupt, syscall.SIGTERM)
		<-again
		os.Exit(130)
	})
	if err := s.Run(ctx); err != nil {
		return tell(err)
	}
	return 0
}

// tell writes one line.
func tell(err error) int {
	fmt.Fprintln(os.Stderr, "refserver:", err)
	var bad *server.FlagError
	if errors.As(err, &bad) {
		return badConfig
	}
	return 1
}

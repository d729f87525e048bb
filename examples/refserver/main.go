// Command refserver is a small cloud controller built with drover: a model for host authors, and a thing to try. Unmodified
// CloudStack clients drive it.
//
//	go run ./examples/refserver                 the server; serve [flags] is the same
//	refserver passwd USER < password            lets a user log in; -new makes the user
//	refserver keys USER [-rotate] [-new]        writes a user's API key into a file
//	refserver catalogue [-json | -openapi]      what it can do
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
	args := os.Args[1:]
	if done, err := server.Admin(context.Background(), args, os.Getenv, seed, os.Stdin, os.Stdout); done {
		if err != nil {
			return tell(err)
		}
		return 0
	}
	if len(args) > 0 && args[0] == "serve" {
		args = args[1:]
	}
	cfg, err := server.Parse(args, os.Getenv, seed, os.Stdout)
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

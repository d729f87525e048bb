package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/drover-cloud/drover/internal/mutants"
)

// runMutant builds this program with a guard removed and runs it with the same flags.
func runMutant(ctx context.Context, id string, args []string, out, errs io.Writer) int {
	fail := func(err error) int {
		fmt.Fprintln(errs, "chaos: mutant:", err)
		return invalid
	}
	dir, err := os.MkdirTemp("", "drover-mutant")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	gomod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fail(err)
	}
	root := filepath.Dir(strings.TrimSpace(string(gomod)))
	m, err := mutants.Load(filepath.Join(root, "internal", "mutants", filepath.Base(id)+".mutant"))
	if err != nil {
		return fail(err)
	}
	overlay, err := m.Overlay(root, dir)
	if err != nil {
		return fail(err)
	}
	bin := filepath.Join(dir, "chaos")
	build := exec.CommandContext(ctx, "go", "build", "-overlay", overlay, "-o", bin, "./internal/chaos")
	build.Dir, build.Stdout, build.Stderr = root, errs, errs
	if err := build.Run(); err != nil {
		return fail(err)
	}
	fmt.Fprintln(errs, "chaos: with the guard of", id, "removed")
	cmd := exec.CommandContext(ctx, bin, without(args, "mutant")...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	cmd.Stdout, cmd.Stderr = out, errs
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode()
	case err != nil:
		return fail(err)
	}
	return met
}

// without is args less a flag and its value.
func without(args []string, name string) (out []string) {
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case a == "-"+name || a == "--"+name:
			i++
		case len(a) > len(name)+2 && (a[:len(name)+2] == "-"+name+"=" || a[:len(name)+3] == "--"+name+"="):
		default:
			out = append(out, a)
		}
	}
	return out
}

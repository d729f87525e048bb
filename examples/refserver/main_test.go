package main

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/drover-cloud/drover/examples/refserver/server"
)

// Not parallel: it stands in for the process.
func TestExit(t *testing.T) {
	used := t.TempDir()
	cfg, err := server.Parse([]string{"-data", used, "-listen", "127.0.0.1:0"}, func(string) string { return "" }, seed, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := server.New(t.Context(), cfg); err != nil { // has it until this process ends
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		args   []string
		status int
		line   string
	}{
		{"ref-03 bad flag", []string{"-hold", "1h"}, 78, "refserver: -hold: "},
		{"ref-03 unknown flag", []string{"-quorum", "3"}, 78, "refserver: -quorum: "},
		{"ref-03 no such bus", []string{"-bus", "kafka://x"}, 78, "refserver: -bus: "},
		{"ref-03 file that cannot be", []string{"-data", t.TempDir(), "-db", "sqlite:" + t.TempDir()}, 78, "refserver: -db: "},
		{"ref-03 directory in use", []string{"-data", used, "-listen", "127.0.0.1:0"}, 78, "refserver: -data: "},
		{"help", []string{"-h"}, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			args, stderr, stdout := os.Args, os.Stderr, os.Stdout
			os.Args, os.Stderr, os.Stdout = append([]string{"refserver"}, c.args...), w, w
			status := run()
			os.Args, os.Stderr, os.Stdout = args, stderr, stdout
			_ = w.Close()
			b, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			said := string(b)
			if status != c.status || c.line != "" && (!strings.HasPrefix(said, c.line) || strings.Count(said, "\n") != 1) {
				t.Errorf("%d: %s", status, said)
			}
		})
	}
}

package main

import (
	"context"
	"log"
	"path/filepath"
	"testing"
)

func Example() {
	if err := run(context.Background(), ""); err != nil {
		log.Print(err)
	}
	// Output:
	// job succeeded on h1, VM running
	// rolled back: the host changed its mind
	// 0 rows, no job: true
}

func TestOnFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vms.db")
	for range 2 { // the second time on what the first one left
		if err := run(t.Context(), path); err != nil {
			t.Fatal(err)
		}
	}
}

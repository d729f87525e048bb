package main

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv(dirVar) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func Example() {
	main()
	// Output:
	// the agent copies, and its node is dead
	// the next node: succeeded: disk-1 was copied in 1 run
}

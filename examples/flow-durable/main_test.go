package main

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv(child) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func Example() {
	main()
	// Output:
	// first process
	//   makes disk-1
	//   asks for a NIC
	//   was killed
	// second process
	//   asks for a NIC
	//   starts it on host-a
	// succeeded: disk-1, nic-1, host-a
	//   create-vm/disk done
	//   create-vm/nic done
	//   create-vm/start done
}

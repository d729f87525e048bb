package main

func Example() {
	main()
	// Output:
	// vm-1, vm-2, host-a, host-b, cluster, volume-7, storage, zone
	// flow: cycle: zone → cluster → host-a → vm-1 → zone
}

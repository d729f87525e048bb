package main

func Example() {
	main()
	// Output:
	// network blue
	//   make br-blue
	//   reserve 10.1.1.0/24
	//   start the gateway of 10.1.1.0/24
	//   ready: br-blue 10.1.1.0/24
	// network full
	//   make br-full
	//   remove br-full
	//   flow create-network: step subnet: no addresses left
	// network dark
	//   make br-dark
	//   reserve 10.1.1.0/24
	//   free 10.1.1.0/24
	//   remove br-dark
	//   flow create-network: step gateway: no host has an uplink
}

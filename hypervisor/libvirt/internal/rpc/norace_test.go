//go:build !race

package rpc_test

const race = false

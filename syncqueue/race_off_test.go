//go:build !race

package syncqueue_test

const raceEnabled = false

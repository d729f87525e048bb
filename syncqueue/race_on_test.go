//go:build race

package syncqueue_test

const raceEnabled = true

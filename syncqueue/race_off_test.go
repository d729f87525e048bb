//go:build !race

package syncqueue_test

const raceEnabled = false

// many tasks.
const many = 100_000

//go:build race

package syncqueue_test

const raceEnabled = true

// many tasks: of ten times as many goroutines, or bubbles, ThreadSanitizer now and then dies by a check of its own (tsan_rtl.cpp:282, 346).
const many = 10_000

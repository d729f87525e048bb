package main

import "testing"

// The example runs to its end.
func TestQuickstart(t *testing.T) { main() }

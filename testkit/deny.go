package testkit

import (
	"log/slog"
	"testing"

	"github.com/drover-cloud/drover/conductor"
)

// Deny is a store that nobody may use: [conductor.Deny], and whoever calls it fails the test.
func Deny(t testing.TB) *conductor.Denied {
	d := conductor.Deny(slog.New(slog.DiscardHandler))
	d.OnDenied(func(text string) { t.Error(text) })
	return d
}

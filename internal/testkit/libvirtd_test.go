package testkit_test

import (
	"os"
	"testing"

	"github.com/drover-cloud/drover/internal/testkit"
)

func TestLibvirtd(t *testing.T) {
	var dir string
	t.Run("a killed daemon starts again", func(t *testing.T) {
		d := testkit.StartLibvirtd(t, testkit.LibvirtdOptions{})
		dir = d.Dir
		if err := d.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := d.Restart(); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := os.Stat(dir); dir != "" && err == nil {
		t.Error(dir, "is left")
	}
}

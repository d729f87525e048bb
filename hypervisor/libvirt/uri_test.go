package libvirt_test

import (
	"errors"
	"testing"

	"github.com/drover-cloud/drover"
	"github.com/drover-cloud/drover/hypervisor/libvirt"
)

func TestParseURI(t *testing.T) {
	for uri, want := range map[string]struct {
		uri, socket string
		dials       bool
	}{
		"qemu:///system":                         {"qemu:///system", "", false},
		"test:///default":                        {"test:///default", "", false},
		"qemu+unix:///session?socket=/run/a%20b": {"qemu:///session", "/run/a b", false},
		"qemu+tcp://h:1/system":                  {"qemu:///system", "", true},
		"qemu+tcp://[::1]/system":                {"qemu:///system", "", true},
		"qemu+unix:///session?socket=/r&x=1":     {},
		"qemu+ssh://h/system":                    {},
		"qemu://h/system":                        {},
		"qemu+tcp:///system":                     {},
		"qemu+tcp://h/system?socket=/x":          {},
		"qemu+tcp://u:p@h/system":                {},
		"xen:///system":                          {},
		"-qemu:///system":                        {},
		"":                                       {},
		"qemu:///sys\ntem":                       {},
		"qemu+unix:///session?command=/bin/sh":   {},
	} {
		cfg, err := libvirt.ParseURI(uri)
		if f := (*drover.FieldError)(nil); want.uri == "" && !errors.As(err, &f) || want.uri != "" && err != nil {
			t.Errorf("%q: %v", uri, err)
			continue
		}
		if err == nil && (cfg.URI != want.uri || cfg.Socket != want.socket || (cfg.Dial != nil) != want.dials) {
			t.Errorf("%q: %+v", uri, cfg)
		}
	}
}

package drivertest

import (
	"errors"
	"testing"

	"github.com/drover-cloud/drover/hypervisor"
)

// hypRaw: what is wrong with a driver's own description is found before anything is sent.
func hypRaw(t *testing.T, d hypervisor.Driver) {
	named := `<name>a</name><uuid>` + vmA + `</uuid>`
	for what, raw := range map[string]string{
		"not allowed, or no description": `<domain/>`,
		"DOCTYPE":                        `<!DOCTYPE domain [<!ENTITY x "y">]><domain type="test">` + named + `</domain>`,
		"entity":                         `<domain type="test"><name>&x;</name></domain>`,
		"command line":                   `<domain type="qemu" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">` + named + `<qemu:commandline><qemu:arg value="-S"/></qemu:commandline></domain>`,
		"257 KiB":                        `<domain>` + string(make([]byte, 257<<10)) + `</domain>`,
		"10 MiB":                         `<domain>` + string(make([]byte, 10<<20)) + `</domain>`,
		"another name":                   `<domain type="test"><name>b</name><uuid>` + vmA + `</uuid></domain>`,
		"another id":                     `<domain type="test"><name>a</name><uuid>` + vmB + `</uuid></domain>`,
	} {
		s := spec(vmA, "a")
		s.Raw = []byte(raw)
		_, err := d.Define(t.Context(), s)
		var f *hypervisor.FieldError
		if !errors.Is(err, hypervisor.ErrInvalid) || !errors.As(err, &f) || f.Field != "Raw" {
			t.Errorf("%s: %.200v", what, err)
		}
	}
	if vms, err := d.List(t.Context(), hypervisor.Filter{}); err != nil || len(vms) > 0 {
		t.Fatalf("left behind: %v, %v", vms, err)
	}
}

package libvirt

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"

	"libvirt.org/go/libvirtxml"

	"github.com/drover-cloud/drover/hypervisor"
)

// rawDomain reads a description that the host wrote. It is written again from what was understood, so that nothing passes unseen.
func rawDomain(s hypervisor.Spec) (*libvirtxml.Domain, error) {
	bad := func(reason string) error { return &hypervisor.FieldError{Field: "Raw", Reason: reason} }
	if err := plain(s.Raw); err != nil {
		return nil, bad(err.Error())
	}
	dom := &libvirtxml.Domain{}
	if err := dom.Unmarshal(string(s.Raw)); err != nil {
		return nil, bad(err.Error())
	}
	switch {
	case dom.Name != s.Name:
		return nil, bad("has another Name")
	case dom.UUID != s.ID:
		return nil, bad("has another ID")
	case dom.QEMUCommandline != nil || dom.QEMUOverride != nil:
		return nil, bad("has a command line for QEMU")
	}
	return dom, nil
}

// plain refuses what XML can do besides elements: document types, entities, instructions.
func plain(doc []byte) error {
	in := xml.NewDecoder(bytes.NewReader(doc))
	for {
		t, err := in.Token()
		switch t.(type) {
		case xml.Directive:
			return errors.New("has a document type or an entity")
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

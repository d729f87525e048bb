package libvirt

import (
	"encoding/xml"
	"errors"
	"fmt"

	"github.com/drover-cloud/drover/hypervisor"
	"github.com/drover-cloud/drover/hypervisor/libvirt/internal/rpc"
)

const (
	metadataURI = "https://github.com/drover-cloud/drover/vm/1"
	metadataKey = "drover"

	metadataElement = 2 // VIR_DOMAIN_METADATA_ELEMENT
	affectCurrent   = 0
	affectLive      = 1
	affectConfig    = 2
)

// Modes of a record.
const (
	modeStarting = "starting" // a start was begun, and not seen to its end
	modeStarted  = "started"
	modeFenced   = "fenced" // only a higher epoch may start it
)

// record is what a VM's metadata say of the epochs it was started with.
type record struct {
	XMLName xml.Name `xml:"https://github.com/drover-cloud/drover/vm/1 vm"`
	Epoch   int64    `xml:"epoch,attr"`
	Mode    string   `xml:"mode,attr"`
}

// refuses says why a start with that epoch is not allowed.
func (r record) refuses(epoch int64) error {
	if epoch < r.Epoch || r.Mode == modeFenced && epoch <= r.Epoch {
		return &hypervisor.Error{Class: hypervisor.ErrStaleEpoch, Message: fmt.Sprintf("epoch %d, recorded is %d %s", epoch, r.Epoch, r.Mode)}
	}
	return nil
}

// recorded reads the record; the zero one if there is none. The definition's counts: a guest that was restored has the one of old.
func (c *call) recorded(dom rpc.Domain, defined bool) (rec record, err error) {
	affects := uint32(affectCurrent)
	if defined {
		affects = affectConfig
	}
	r, err := c.ask(rpc.DomainGetMetadata, rpc.Args{}.Dom(dom).I32(metadataElement).Opt(metadataURI).U32(affects))
	if e := (*hypervisor.Error)(nil); errors.As(err, &e) && e.Code == codeNoMetadata {
		return rec, nil
	}
	if err != nil {
		return rec, err
	}
	var seen struct { // libvirt answers it without its name space
		Epoch int64  `xml:"epoch,attr"`
		Mode  string `xml:"mode,attr"`
	}
	if err := xml.Unmarshal([]byte(r.Str()), &seen); err != nil {
		return rec, fmt.Errorf("metadata: %w", err)
	}
	return record{Epoch: seen.Epoch, Mode: seen.Mode}, r.Err()
}

// record writes the record, where it stays when the guest ends.
func (c *call) record(dom rpc.Domain, rec record, affects uint32) error {
	doc, err := xml.Marshal(rec)
	if err != nil {
		return err
	}
	_, err = c.do(rpc.DomainSetMetadata, rpc.Args{}.Dom(dom).I32(metadataElement).Opt(string(doc)).Opt(metadataKey).Opt(metadataURI).U32(affects))
	return err
}

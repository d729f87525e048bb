package libvirt

import (
	"encoding/xml"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"

	"github.com/drover-cloud/drover/hypervisor"
)

var qemuHost = &host{id: "x", arch: "x86_64", kind: "qemu", osType: "hvm"}

// elements counts those of a document.
func elements(t testing.TB, doc string) (n int) {
	in := xml.NewDecoder(strings.NewReader(doc))
	for {
		tok, err := in.Token()
		if errors.Is(err, io.EOF) {
			return n
		}
		if err != nil {
			t.Fatalf("%v in %s", err, doc)
		}
		if _, ok := tok.(xml.StartElement); ok {
			n++
		}
	}
}

// FuzzDefine is hyp-18: whatever is in a Spec, it is refused, or is in the XML as it was and nothing else.
func FuzzDefine(f *testing.F) {
	f.Add("web-1", "/images/a.qcow2", "qcow2", "virtio", "br0", "02:00:0a:01:01:0a", "e1000", true)
	f.Add("a<b", "/images/a&b\"'.raw", "raw", "", "br0'/>", "02-00-0a-01-01-0a", "", false)
	f.Add("x", "/images/]]>", "raw", "x/><y", "b", "0200.0a01.010a", "virtio\x00", true)
	f.Fuzz(checkDefine)
}

// checkDefine defines a machine of such strings.
func checkDefine(t *testing.T, name, path, format, bus, bridge, mac, model string, console bool) {
	rules := hypervisor.Rules{DiskRoots: []string{"/images"}}
	plain := hypervisor.Spec{ID: "00000000-0000-4000-8000-000000000001", Name: "plain", VCPU: 2, MemoryMiB: 64,
		Disks: []hypervisor.Disk{{Path: "/images/x", Format: "raw"}}, NICs: []hypervisor.NIC{{Bridge: "br0", MAC: "02:00:0a:01:01:0a"}}}
	s := plain
	s.Name, s.Console, s.Agent = name, console, console
	s.Disks = []hypervisor.Disk{{Path: path, Format: format, Bus: bus}}
	s.NICs = []hypervisor.NIC{{Bridge: bridge, MAC: mac, Model: model}}
	if err := s.Validate(rules); err != nil {
		if !errors.Is(err, hypervisor.ErrInvalid) {
			t.Error(err)
		}
		return
	}
	rec := record{Epoch: 7, Mode: modeStarted}
	doc, err := describe(s, qemuHost, rec, "")
	if err != nil {
		t.Fatal(err)
	}
	same := plain
	same.Console, same.Agent = console, console
	want, err := describe(same, qemuHost, rec, "")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := elements(t, doc), elements(t, want); got != want {
		t.Errorf("%d elements, want %d: %s", got, want, doc)
	}
	var dom libvirtxml.Domain
	if err := dom.Unmarshal(doc); err != nil {
		t.Fatal(err)
	}
	disk, nic := dom.Devices.Disks[0], dom.Devices.Interfaces[0]
	if dom.Name != name || dom.UUID != s.ID || disk.Source.File.File != path || disk.Driver.Type != format || bus != "" && disk.Target.Bus != bus ||
		nic.Source.Bridge.Bridge != bridge || nic.MAC.Address != mac || model != "" && nic.Model.Type != model {
		t.Errorf("%+v became %s", s, doc)
	}
}

func TestDefineStrings(t *testing.T) {
	t.Run("hyp-18 whatever is in a Spec", func(t *testing.T) {
		draw := rand.New(rand.NewPCG(18, 18))
		parts := []string{"a", "B1", "<", ">", "&", "'", "\"", "]]>", "&amp;", "..", "/", "-", ".", "\x00", "\n", "é", "<!--", "</name>", "%s", " ", "\xff"}
		pick := func(first string) string {
			for range draw.IntN(4) {
				first += parts[draw.IntN(len(parts))]
			}
			return first
		}
		for n := range 3000 {
			checkDefine(t, pick("a"), pick("/images/x"), []string{"raw", "qcow2", pick("")}[n%3], pick(""), pick("b"), "02:00:0a:01:01:0a", pick(""), n%2 == 0)
		}
	})
}

func TestRaw(t *testing.T) {
	const id = "00000000-0000-4000-8000-000000000001"
	good := "<domain type='qemu'><name>a</name><uuid>" + id + "</uuid><memory>1024</memory></domain>"
	for what, c := range map[string]struct {
		doc   string
		rules hypervisor.Rules
	}{
		"not allowed":        {good, hypervisor.Rules{}},
		"document type":      {"<!DOCTYPE domain>" + good, hypervisor.Rules{AllowRaw: true}},
		"entity":             {`<!DOCTYPE d [<!ENTITY e "x">]>` + good, hypervisor.Rules{AllowRaw: true}},
		"unknown entity":     {strings.Replace(good, "1024", "&e;", 1), hypervisor.Rules{AllowRaw: true}},
		"command line":       {strings.Replace(good, "</domain>", "<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'><arg value='-x'/></commandline></domain>", 1), hypervisor.Rules{AllowRaw: true}},
		"257 KiB":            {strings.Replace(good, "1024", strings.Repeat(" ", 257<<10), 1), hypervisor.Rules{AllowRaw: true}},
		"another name":       {strings.Replace(good, ">a<", ">b<", 1), hypervisor.Rules{AllowRaw: true}},
		"another id":         {strings.Replace(good, "01</uuid>", "02</uuid>", 1), hypervisor.Rules{AllowRaw: true}},
		"nothing":            {"<", hypervisor.Rules{AllowRaw: true}},
		"not closed":         {strings.TrimSuffix(good, "</domain>"), hypervisor.Rules{AllowRaw: true}},
		"something after it": {good + "<domain/>", hypervisor.Rules{AllowRaw: true}},
	} {
		t.Run("hyp-19 "+what, func(t *testing.T) {
			s := hypervisor.Spec{ID: id, Name: "a", Raw: []byte(c.doc)}
			err := s.Validate(c.rules)
			var dom *libvirtxml.Domain
			if err == nil {
				dom, err = rawDomain(s)
			}
			if !errors.Is(err, hypervisor.ErrInvalid) && (what != "something after it" || err != nil) {
				t.Errorf("%v, %+v", err, dom)
			}
		})
	}
	t.Run("hyp-19 what is understood is written again", func(t *testing.T) {
		doc, err := describe(hypervisor.Spec{ID: id, Name: "a", Raw: []byte(strings.Replace(good, "<memory>", "<bogus>x</bogus><memory>", 1))}, qemuHost, record{}, "")
		if err != nil || strings.Contains(doc, "bogus") || !strings.Contains(doc, "1024") {
			t.Error(doc, err)
		}
	})
}

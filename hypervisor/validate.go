package hypervisor

import (
	"fmt"
	"net"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"
)

// MaxRaw is the largest Spec.Raw in bytes.
const MaxRaw = 256 << 10

var (
	uuidRE = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	nameRE = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}$`)
)

// Rules is what a driver was configured to accept.
type Rules struct {
	DiskRoots []string // directories that may hold disks; none: no disks
	AllowRaw  bool     // accept Spec.Raw
}

// ValidID checks the id of a VM: a lower-case UUID. Otherwise *FieldError.
func ValidID(id string) error {
	if !uuidRE.MatchString(id) {
		return &FieldError{"ID", "is no lower-case UUID"}
	}
	return nil
}

// ValidName checks the name of a VM or a snapshot. Otherwise *FieldError.
func ValidName(name string) error {
	if !nameRE.MatchString(name) {
		return &FieldError{"Name", "must match " + nameRE.String()}
	}
	return nil
}

// Validate checks s by r and gives a *FieldError that names the first bad field. Drivers call it before anything is sent.
func (s Spec) Validate(r Rules) error {
	if err := ValidID(s.ID); err != nil {
		return err
	}
	if err := ValidName(s.Name); err != nil {
		return err
	}
	switch {
	case s.Epoch < 0:
		return &FieldError{"Epoch", "is negative"}
	case len(s.Raw) > 0 && !r.AllowRaw:
		return &FieldError{"Raw", "is not allowed here"}
	case len(s.Raw) > MaxRaw:
		return &FieldError{"Raw", "is over 256 KiB"}
	case len(s.Raw) > 0:
		return nil // the rest is the driver's own to check
	case s.VCPU < 1 || s.VCPU > 4096:
		return &FieldError{"VCPU", "must be 1 to 4096"}
	case s.MemoryMiB < 1:
		return &FieldError{"MemoryMiB", "must be at least 1"}
	}
	for i, d := range s.Disks {
		if err := d.validate(fmt.Sprintf("Disks[%d]", i), r.DiskRoots); err != nil {
			return err
		}
	}
	for i, n := range s.NICs {
		if err := n.validate(fmt.Sprintf("NICs[%d]", i)); err != nil {
			return err
		}
	}
	return nil
}

func (d Disk) validate(field string, roots []string) error {
	switch {
	case !path.IsAbs(d.Path) || path.Clean(d.Path) != d.Path || containsControl(d.Path):
		return &FieldError{field + ".Path", "must be absolute and clean"}
	case !under(d.Path, roots):
		return &FieldError{field + ".Path", "is under none of the allowed directories"}
	case d.Format != "raw" && d.Format != "qcow2":
		return &FieldError{field + ".Format", "must be raw or qcow2"}
	case d.Bus != "" && !nameRE.MatchString(d.Bus):
		return &FieldError{field + ".Bus", "must match " + nameRE.String()}
	}
	return nil
}

func (n NIC) validate(field string) error {
	mac, err := net.ParseMAC(n.MAC)
	switch {
	case err != nil || len(mac) != 6:
		return &FieldError{field + ".MAC", "is no MAC address"}
	case !nameRE.MatchString(n.Bridge):
		return &FieldError{field + ".Bridge", "must match " + nameRE.String()}
	case n.Model != "" && !nameRE.MatchString(n.Model):
		return &FieldError{field + ".Model", "must match " + nameRE.String()}
	}
	return nil
}

func under(p string, roots []string) bool {
	for _, root := range roots {
		root = path.Clean(root)
		if root == "/" || strings.HasPrefix(p, root+"/") {
			return true
		}
	}
	return false
}

// containsControl says whether s has control characters, or what a document in XML cannot hold.
func containsControl(s string) bool {
	return !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffe || r == 0xffff })
}

package lease

import (
	"cmp"
	"strconv"
	"strings"
)

// Token fences: whoever receives one refuses any lower (Store, Epoch) for the same thing. (Kleppmann's fencing token.)
type Token struct {
	Node        string // name of the session
	Incarnation int64  // of that name, from 1
	Store       string // the store's incarnation, "<database id>.<n>": n rises when commits may have been lost
	Epoch       int64  // rises with every session, lease and claim of the store
}

// Less orders by store, then epoch. Two incarnations of one database are ordered by their number; different databases have
// no meaningful order, only a stable one.
func (t Token) Less(u Token) bool { return t.Compare(u) < 0 }

// Compare is -1 if t is less than u, +1 if u is less than t, else 0.
func (t Token) Compare(u Token) int {
	if c := compareStores(t.Store, u.Store); c != 0 {
		return c
	}
	return cmp.Compare(t.Epoch, u.Epoch)
}

func compareStores(a, b string) int {
	aid, an := splitStore(a)
	bid, bn := splitStore(b)
	if aid == bid && an != bn {
		return cmp.Compare(an, bn)
	}
	return cmp.Compare(a, b)
}

// splitStore takes "<id>.<n>" apart; n is -1 if there is none.
func splitStore(s string) (id string, n int64) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, -1
	}
	n, err := strconv.ParseInt(s[i+1:], 10, 64)
	if err != nil || n < 0 {
		return s, -1
	}
	return s[:i], n
}

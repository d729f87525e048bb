package conductor

import (
	"encoding/json"
	"time"
)

// Namespaces and methods of the endpoints; the methods of a store are called commit and read.
const (
	spaceTx     = "store.tx"
	spaceMember = "store.member"
	callCommit  = "commit"
	callRead    = "read"
	callNow     = "now"
	version     = "1.0"
)

const (
	maxOps    = 200
	maxCommit = 512 << 10
	maxResult = 64 << 10 // of one operation, in a commit record
	maxPage   = 500      // rows of a list
)

// op is an operation on the wire.
type op struct {
	Store  string          `json:",omitempty"` // "": nothing to do here
	Method string          `json:",omitempty"`
	Args   json.RawMessage `json:",omitempty"`
	Save   *diff           `json:",omitempty"` // instead of Args
	Stamp  *string         `json:",omitempty"` // what the body has decided by; nil: nothing
}

// diff is what has changed of a row that was read at Version.
type diff struct {
	Key     string
	Version int64
	Set     map[string]json.RawMessage `json:",omitempty"`
	Unset   []string                   `json:",omitempty"`
}

// request is a read, of one operation, or a commit.
type request struct {
	ID     string   `json:",omitempty"` // of a commit
	Ops    []op     `json:",omitempty"`
	Hints  []string `json:",omitempty"`
	Speaks spoken   `json:",omitempty"`
	At     int64    `json:",omitempty"` // of a commit: when its id was made, in milliseconds of the store's clock; 0: not known
}

// reply answers a request.
type reply struct {
	Now     time.Time
	Results []result `json:",omitempty"` // of the operations
	// Missed: nothing was done, since this operation, from 1, has another result than was expected; those up to it are given.
	Missed int      `json:",omitempty"`
	Err    *failure `json:",omitempty"` // nothing was done
	Stale  bool     `json:",omitempty"` // with Err: the id is older than commit records are kept
	Doubt  string   `json:",omitempty"` // the store failed in the end: whether it was done, a repeat will tell
}

// result is that of an operation.
type result struct {
	Value json.RawMessage `json:",omitempty"`
	Diff  *diff           `json:",omitempty"` // from the row as saved
	Brief *string         `json:",omitempty"` // in a commit record: the value is read again
}

// spoken are the versions that a client speaks, by store.
type spoken map[string]string

func (d *diff) empty() bool { return len(d.Set) == 0 && len(d.Unset) == 0 }

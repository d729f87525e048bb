package console

import (
	"bytes"
	"encoding/json"

	"github.com/drover-cloud/drover/internal/jobjson"
	"github.com/drover-cloud/drover/job"
)

// The objects of the API that cmd/drover shows too.
type (
	stamp       = jobjson.Stamp
	jobObject   = jobjson.Job
	keyObject   = jobjson.Key
	entryObject = jobjson.Entry

	span          = jobjson.Span
	lineObject    = jobjson.Line
	kindObject    = jobjson.Kind
	keyLine       = jobjson.KeyLine
	poolObject    = jobjson.Pool
	memberObject  = jobjson.Member
	blockedObject = jobjson.Blocked
)

// maxShown is how much of a payload is shown; the rest is for download.
const maxShown = 64 << 10

// wholeOf is a job with its payloads, masked and at most maxShown each.
func (c *Console) wholeOf(j *job.Job) jobObject {
	o := jobjson.Of(j)
	if sealed(j.Args) {
		o.ArgsSize = len(j.Args) // of secrets the size is all that is shown
	} else {
		o.Args, o.ArgsSize = c.shown(j.Kind, j.Args)
	}
	o.Result, o.ResultSize = c.shown(j.Kind, j.Result)
	return o
}

// sealed tells the args of a kind that is [job.Sensitive] as a whole.
func sealed(args json.RawMessage) bool { return bytes.HasPrefix(args, []byte(`{"$sealed":`)) }

func (c *Console) shown(kind string, b json.RawMessage) (json.RawMessage, int) {
	if b = c.masked(kind, b); len(b) > maxShown {
		return nil, len(b)
	}
	return b, 0
}

// masked is a payload as it may leave: JSON, or a JSON string of bytes that are none.
func (c *Console) masked(kind string, b json.RawMessage) json.RawMessage {
	if len(b) == 0 {
		return nil
	}
	if c.cfg.Mask != nil {
		b = c.cfg.Mask(kind, b)
	}
	return jobjson.Payload(b)
}

func (c *Console) entryOf(kind string, e job.Entry) entryObject {
	data, _ := c.shown(kind, e.Data)
	return entryObject{N: e.N, At: stamp(e.At), Node: e.Node, Text: e.Text, Failure: e.Failure, Data: data}
}

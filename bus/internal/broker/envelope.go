package broker

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/drover-cloud/drover/bus"
)

// An envelope is a version, the length of the fields in four bytes, and the fields: a tag and a value each, where a value is a number
// (varint) or a text behind its length. Fields that are empty are left out; unknown tags are passed over.
const (
	envelope  = 1
	preamble  = 5
	maxFields = 32 << 10
	maxChain  = 16
)

// Tags of numbers are below firstText.
const (
	tagKind = 1 + iota
	tagAll
	tagInc
	tagTo
	tagSent
	tagDeadline
	tagClock
	tagAt
	tagMonitor
	tagEpoch
	tagRing
)

const (
	firstText = 64

	tagID = firstText + iota - 1
	tagTopic
	tagNode
	tagKey
	tagNamespace
	tagMethod
	tagVersion
	tagFrom
	tagCodec
	tagErr
	tagTraceparent
	tagTracestate
	tagBaggage
	tagIdentity
	tagChain
	tagName  // of a header of the host's
	tagValue // of the last tagName
)

// Append writes m behind dst: envelope and body.
func Append(dst []byte, m *bus.Message) []byte {
	w := &m.Wire
	at := len(dst)
	dst = append(dst, envelope, 0, 0, 0, 0)
	all := int64(0)
	if m.Fanout {
		all = 1
	}
	for _, n := range [...]struct {
		tag byte
		v   int64
	}{
		{tagKind, int64(w.Kind)}, {tagAll, all}, {tagInc, w.Inc}, {tagTo, w.To}, {tagSent, w.Sent}, {tagDeadline, w.Deadline},
		{tagClock, w.Clock}, {tagAt, w.At}, {tagMonitor, w.Monitor}, {tagEpoch, w.Epoch}, {tagRing, int64(w.Ring)},
	} {
		if n.v != 0 {
			dst = binary.AppendVarint(append(dst, n.tag), n.v)
		}
	}
	for _, s := range [...]struct {
		tag byte
		v   string
	}{
		{tagID, m.ID}, {tagTopic, m.Topic}, {tagNode, m.Node}, {tagKey, m.Key}, {tagNamespace, m.Namespace}, {tagMethod, m.Method},
		{tagVersion, m.Version}, {tagFrom, w.From}, {tagCodec, w.Codec}, {tagErr, w.Err}, {tagTraceparent, w.Traceparent},
		{tagTracestate, w.Tracestate}, {tagBaggage, w.Baggage}, {tagIdentity, w.Identity},
	} {
		if s.v != "" {
			dst = text(dst, s.tag, s.v)
		}
	}
	for _, s := range w.Chain {
		dst = text(dst, tagChain, s)
	}
	for k, v := range m.Header { // each for itself: a map again at the other end
		dst = text(text(dst, tagName, k), tagValue, v)
	}
	binary.BigEndian.PutUint32(dst[at+1:], uint32(len(dst)-at-preamble))
	return append(dst, m.Body...)
}

func text(dst []byte, tag byte, s string) []byte {
	return append(binary.AppendUvarint(append(dst, tag), uint64(len(s))), s...)
}

// Decode reads what Append wrote; the message's body is a part of data. What cannot be a frame is bus.ErrInvalid.
func Decode(data []byte) (*bus.Message, error) {
	if len(data) < preamble || data[0] != envelope {
		return nil, fmt.Errorf("%w: no envelope", bus.ErrInvalid)
	}
	n := binary.BigEndian.Uint32(data[1:])
	if n > maxFields || int(n) > len(data)-preamble {
		return nil, fmt.Errorf("%w: an envelope of %d bytes", bus.ErrInvalid, n)
	}
	m := &bus.Message{Body: data[preamble+int(n):]}
	r := reader{rest: string(data[preamble : preamble+int(n)])}
	for r.rest != "" && !r.bad {
		r.field(m)
	}
	switch {
	case r.bad:
		return nil, fmt.Errorf("%w: an envelope that cannot be read", bus.ErrInvalid)
	case m.ID == "" || len(m.ID) > 255:
		return nil, fmt.Errorf("%w: a frame without id", bus.ErrInvalid)
	case len(m.Wire.Chain) > maxChain:
		return nil, fmt.Errorf("%w: a chain of more than %d", bus.ErrInvalid, maxChain)
	}
	return m, nil
}

// reader takes an envelope apart; the texts are parts of it.
type reader struct {
	rest string
	name string // the last tagName
	bad  bool
}

func (r *reader) uvarint() (n uint64) {
	for shift := 0; shift < 64 && r.rest != ""; shift += 7 {
		c := r.rest[0]
		r.rest = r.rest[1:]
		if n |= uint64(c&0x7f) << shift; c < 0x80 {
			return n
		}
	}
	r.bad = true
	return 0
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) text() (s string) {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.bad = true
		return ""
	}
	s, r.rest = r.rest[:n], r.rest[n:]
	return s
}

func (r *reader) field(m *bus.Message) {
	w := &m.Wire
	tag := r.rest[0]
	r.rest = r.rest[1:]
	if tag < firstText {
		r.number(m, tag, r.varint())
		return
	}
	s := r.text()
	if at := [...]*string{
		tagID - firstText: &m.ID, tagTopic - firstText: &m.Topic, tagNode - firstText: &m.Node, tagKey - firstText: &m.Key,
		tagNamespace - firstText: &m.Namespace, tagMethod - firstText: &m.Method, tagVersion - firstText: &m.Version,
		tagFrom - firstText: &w.From, tagCodec - firstText: &w.Codec, tagErr - firstText: &w.Err,
		tagTraceparent - firstText: &w.Traceparent, tagTracestate - firstText: &w.Tracestate,
		tagBaggage - firstText: &w.Baggage, tagIdentity - firstText: &w.Identity,
	}; int(tag) < firstText+len(at) {
		*at[tag-firstText] = s
		return
	}
	switch tag {
	case tagChain:
		w.Chain = append(w.Chain, s)
	case tagName:
		r.name = s
	case tagValue:
		if m.Header == nil {
			m.Header = map[string]string{}
		}
		m.Header[r.name] = s
	}
}

func (r *reader) number(m *bus.Message, tag byte, n int64) {
	w := &m.Wire
	switch tag {
	case tagKind:
		w.Kind = bus.Kind(n)
		r.bad = r.bad || n < 0 || n > int64(bus.KindProbe)
	case tagAll:
		m.Fanout = n == 1
	case tagInc:
		w.Inc = n
	case tagTo:
		w.To = n
	case tagSent:
		w.Sent = n
	case tagDeadline:
		w.Deadline = n
	case tagClock:
		w.Clock = n
	case tagAt:
		w.At = n
	case tagMonitor:
		w.Monitor = n
	case tagEpoch:
		w.Epoch = n
	case tagRing:
		w.Ring = uint64(n)
	}
}

// Unescape reads what Escape wrote; anything else stays as it is.
func Unescape(s string) string {
	if !strings.Contains(s, "=") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if i+2 < len(s) && s[i] == '=' {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

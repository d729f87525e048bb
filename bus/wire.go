package bus

import (
	"encoding/json"
	"iter"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	maxHeader = 16 << 10
	maxChain  = 16
	hostsOwn  = "x-" // before the names of the host's own headers
)

// Headers are m's envelope as strings, without what is empty, in a fixed order but for the host's own.
func (m *Message) Headers() iter.Seq2[string, string] {
	return func(yield func(k, v string) bool) {
		w := &m.Wire
		for _, h := range [...]struct{ k, v string }{
			{"id", m.ID}, {"kind", w.Kind.String()}, {"topic", m.Topic}, {"node", m.Node}, {"key", m.Key}, {"all", flag(m.Fanout)},
			{"ns", m.Namespace}, {"method", m.Method}, {"ver", m.Version}, {"from", w.From}, {"inc", number(w.Inc)}, {"to", number(w.To)},
			{"sent", number(w.Sent)}, {"deadline", number(w.Deadline)}, {"clock", number(w.Clock)}, {"at", number(w.At)}, {"monitor", number(w.Monitor)},
			{"epoch", number(w.Epoch)}, {"ring", hex(w.Ring)}, {"codec", w.Codec}, {"chain", joinChain(w.Chain)}, {"err", w.Err},
			{"traceparent", w.Traceparent}, {"tracestate", w.Tracestate}, {"baggage", w.Baggage}, {"identity", w.Identity},
		} {
			if h.v != "" && !yield(h.k, h.v) {
				return
			}
		}
		for _, k := range sortedKeys(m.Header) {
			if !yield(hostsOwn+k, m.Header[k]) {
				return
			}
		}
	}
}

func sortedKeys(m map[string]string) []string {
	if len(m) == 0 {
		return nil
	}
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return ""
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

func hex(n uint64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 16)
}

func joinChain(c []string) string {
	if len(c) == 0 {
		return ""
	}
	esc := make([]string, len(c))
	for i, s := range c {
		esc[i] = url.QueryEscape(s)
	}
	return strings.Join(esc, ",")
}

// headerSize is what Headers amount to, without making them where that costs.
func (m *Message) headerSize() int {
	w := &m.Wire
	n := 400 + len(m.ID) + len(m.Topic) + len(m.Node) + len(m.Key) + len(m.Namespace) + len(m.Method) + len(m.Version) + len(w.From) +
		len(w.Err) + len(w.Traceparent) + len(w.Tracestate) + len(w.Baggage) + len(w.Identity)
	for k, v := range m.Header {
		n += len(hostsOwn) + len(k) + len(v)
	}
	for _, s := range w.Chain {
		n += 3 * len(s)
	}
	return n
}

// Parse is the message of headers written by Headers; unknown ones are ignored. What cannot be a frame is ErrInvalid.
func Parse(headers iter.Seq2[string, string], body []byte) (*Message, error) {
	m := &Message{Body: body}
	size, bad := 0, ""
	for k, v := range headers {
		if size += len(k) + len(v); size > 2*maxHeader { // what others add is theirs, within reason
			return nil, invalid("headers of more than %d bytes", maxHeader)
		}
		if own, ok := strings.CutPrefix(k, hostsOwn); ok {
			if m.Header == nil {
				m.Header = map[string]string{}
			}
			m.Header[own] = v
			continue
		}
		if !m.field(k, v) {
			bad = k
		}
	}
	switch {
	case bad != "":
		return nil, invalid("header %s cannot be read", bad)
	case m.ID == "" || len(m.ID) > 255:
		return nil, invalid("a frame without id")
	case len(m.Wire.Chain) > maxChain:
		return nil, invalid("a chain of more than %d", maxChain)
	}
	return m, nil
}

// field sets one header; false if v cannot be read.
func (m *Message) field(k, v string) bool {
	w := &m.Wire
	if s := m.text(k); s != nil {
		*s = v
		return true
	}
	if n := w.integer(k); n != nil {
		var err error
		*n, err = strconv.ParseInt(v, 10, 64)
		return err == nil
	}
	var err error
	switch k {
	case "kind":
		i := slices.Index(kinds[:KindUnrouted], v)
		w.Kind = Kind(max(i, 0))
		return i >= 0
	case "all":
		m.Fanout = v == "1"
	case "ring":
		w.Ring, err = strconv.ParseUint(v, 16, 64)
	case "chain":
		for s := range strings.SplitSeq(v, ",") {
			if s, err = url.QueryUnescape(s); err != nil {
				return false
			}
			w.Chain = append(w.Chain, s)
		}
	}
	return err == nil
}

func (m *Message) text(k string) *string {
	w := &m.Wire
	switch k {
	case "id":
		return &m.ID
	case "topic":
		return &m.Topic
	case "node":
		return &m.Node
	case "key":
		return &m.Key
	case "ns":
		return &m.Namespace
	case "method":
		return &m.Method
	case "ver":
		return &m.Version
	case "from":
		return &w.From
	case "codec":
		return &w.Codec
	case "err":
		return &w.Err
	case "traceparent":
		return &w.Traceparent
	case "tracestate":
		return &w.Tracestate
	case "baggage":
		return &w.Baggage
	case "identity":
		return &w.Identity
	}
	return nil
}

func (w *Wire) integer(k string) *int64 {
	switch k {
	case "inc":
		return &w.Inc
	case "to":
		return &w.To
	case "sent":
		return &w.Sent
	case "deadline":
		return &w.Deadline
	case "clock":
		return &w.Clock
	case "at":
		return &w.At
	case "monitor":
		return &w.Monitor
	case "epoch":
		return &w.Epoch
	}
	return nil
}

// packed is a message as one JSON text, for outboxes.
type packed struct {
	Headers map[string]string `json:"headers"`
	Body    []byte            `json:"body"`
}

func pack(m *Message) ([]byte, error) {
	p := packed{Headers: map[string]string{}, Body: m.Body}
	for k, v := range m.Headers() {
		p.Headers[k] = v
	}
	return json.Marshal(p)
}

func unpack(b []byte) (*Message, error) {
	var p packed
	if err := json.Unmarshal(b, &p); err != nil {
		return nil, invalid("outbox: %v", err)
	}
	return Parse(func(yield func(k, v string) bool) {
		for _, k := range sortedKeys(p.Headers) {
			if !yield(k, p.Headers[k]) {
				return
			}
		}
	}, p.Body)
}

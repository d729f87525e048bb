package bus

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Message is addressed to any one node of a topic ("compute"), to a node (Node, "compute@n1"), to the owner of a key (Key,
// "compute#vm/42"), or to every node of the topic (Fanout, "compute*").
type Message struct {
	// ID is drawn by the bus if empty. Receivers drop a second message of an ID that they have seen within 10 minutes.
	ID string
	// Topic is [a-z0-9][a-z0-9._-]{0,63}; in an event it is the subject.
	Topic string
	// Node and Key are 1 to 255 bytes of UTF-8 without control characters, or empty.
	Node, Key string
	Fanout    bool
	// Namespace and Method are spelled like Topic, Namespace may be empty; Version is "major.minor[.rev]", "" means "1.0".
	Namespace, Method, Version string
	// Header is the host's own. Together with what the bus adds it has at most 16 KiB.
	Header map[string]string
	Body   []byte
	// Wire is what the bus adds: senders leave it zero, transports carry it.
	Wire Wire

	keep time.Duration // that the receiver has from sending on, if not until the sender's own deadline
}

// Kind of a frame.
type Kind uint8

// Kinds of frames. Casts, calls and events are a host's; the others are between buses.
const (
	KindCast Kind = iota
	KindCall
	KindEvent
	KindReply
	KindAccepted // the call runs, no reply yet
	KindBeat     // it still runs
	KindCancel   // its caller has gone
	KindProbe    // dropped silently: is the way open?
	// KindUnrouted never travels: a transport that learns after Send that nobody receives a call says so to the receiver of the
	// caller's inbox, with the call's ID.
	KindUnrouted
)

var kinds = [...]string{"cast", "call", "event", "reply", "accepted", "beat", "cancel", "probe", "unrouted"}

func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return "unknown"
}

// Wire is the part of an envelope that the bus fills in.
type Wire struct {
	Kind Kind
	// From is the sender and Inc its incarnation; To is the incarnation that a frame for an inbox is for.
	From    string
	Inc, To int64
	// Sent and Deadline are nanoseconds of the sender's clock, Clock counts the jumps of that. Deadline 0: none.
	Sent, Deadline, Clock int64
	// At is when an event was published, in nanoseconds of its publisher's clock; that is the Node of its message.
	At int64
	// Monitor is how often the caller wants to hear that its call runs, in nanoseconds; 0: not at all.
	Monitor int64
	// Epoch and Ring are of the sender's view when it chose the owner of a key.
	Epoch int64
	Ring  uint64
	// Codec names how Body is written.
	Codec string
	// Chain are the limited endpoints that wait for this call.
	Chain []string
	// Err is the error of a reply.
	Err string
	// Traceparent, Tracestate and Baggage are those of W3C; Identity is the host's (Config.Identity).
	Traceparent, Tracestate, Baggage, Identity string
	// Proven says that the transport vouches for From. It is no header.
	Proven bool
	// Again says that the transport delivers the message a second time and the first may have run. It is no header.
	Again bool
}

// Clone is a copy that shares nothing with m.
func (m *Message) Clone() *Message {
	c := *m
	c.Header, c.Body = maps.Clone(m.Header), slices.Clone(m.Body)
	c.Wire.Chain = slices.Clone(m.Wire.Chain)
	return &c
}

// Address is a place that messages go to and are received at. It is one of: a topic's any one, a topic at a node, a topic's
// fanout, the events of a subject, the inbox of a node's incarnation.
type Address struct {
	Topic, Node string
	Fanout      bool
	Inbox       bool  // of Node
	Incarnation int64 // of the inbox
	Events      bool
	// Subject of events. For Receive it is a pattern: a segment * is any one segment, a last segment > is the subject before
	// it and all below it.
	Subject string
}

// Address is where m goes; that of a keyed message is known when its owner has been written into Node.
func (m *Message) Address() Address {
	switch m.Wire.Kind {
	case KindEvent:
		return Address{Events: true, Subject: m.Topic}
	case KindReply, KindAccepted, KindBeat:
		return Address{Inbox: true, Node: m.Node, Incarnation: m.Wire.To}
	}
	return Address{Topic: m.Topic, Node: m.Node, Fanout: m.Fanout}
}

// String is the textual form: compute, compute@n1, compute*, events job.state, inbox of n1.
func (a Address) String() string {
	switch {
	case a.Events:
		return "events " + a.Subject
	case a.Inbox:
		return "inbox of " + a.Node
	case a.Fanout:
		return a.Topic + "*"
	case a.Node != "":
		return a.Topic + "@" + a.Node
	}
	return a.Topic
}

// target is a's and the key's textual form.
func (m *Message) target() string {
	if m.Key != "" && m.Wire.Kind != KindEvent {
		return m.Topic + "#" + m.Key
	}
	return m.Address().String()
}

// ParseTo reads compute, compute@n1, compute#vm/42 and compute* into the fields of a message.
func ParseTo(text string) (*Message, error) {
	m := &Message{Topic: text}
	if i := strings.IndexAny(text, "@#*"); i >= 0 {
		m.Topic = text[:i]
		switch rest := text[i+1:]; text[i] {
		case '@':
			m.Node = rest
		case '#':
			m.Key = rest
		default:
			m.Fanout = rest == ""
		}
		if m.Node == "" && m.Key == "" && !m.Fanout {
			return nil, invalid("address %q: want topic, topic@node, topic#key or topic*", text)
		}
	}
	return m, m.checkAddress()
}

// isName is [a-z0-9][a-z0-9._-]{0,63}.
func isName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || i > 0 && (c == '.' || c == '_' || c == '-') {
			continue
		}
		return false
	}
	return s != "" && len(s) <= 64
}

// isID is a node or a key.
func isID(s string) bool {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c >= 0x7f {
			plain = false
		}
	}
	return s != "" && len(s) <= 255 && (plain || utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl))
}

func (m *Message) checkAddress() error {
	switch {
	case !isName(m.Topic):
		return invalid("topic %q: want [a-z0-9][a-z0-9._-]{0,63}", m.Topic)
	case m.Node != "" && (m.Key != "" || m.Fanout), m.Key != "" && m.Fanout:
		return invalid("a message has one of Node, Key and Fanout")
	case m.Node != "" && !isID(m.Node):
		return invalid("node %q: want 1 to 255 bytes of UTF-8 without control characters", m.Node)
	case m.Key != "" && !isID(m.Key):
		return invalid("key %q: want 1 to 255 bytes of UTF-8 without control characters", m.Key)
	}
	return nil
}

// check refuses what cannot be sent.
func (m *Message) check() error {
	if err := m.checkAddress(); err != nil {
		return err
	}
	switch {
	case m.Namespace != "" && !isName(m.Namespace):
		return invalid("namespace %q: want [a-z0-9][a-z0-9._-]{0,63}", m.Namespace)
	case !isName(strings.TrimPrefix(m.Method, "_")): // nobody has such a one, and is told so by the receiver
		return invalid("method %q: want [a-z0-9][a-z0-9._-]{0,63}", m.Method)
	case slices.ContainsFunc(sortedKeys(m.Header), func(k string) bool { return !isName(strings.ToLower(k)) }):
		return invalid("a header whose name is not [A-Za-z0-9][A-Za-z0-9._-]{0,63}")
	case m.Version != "":
		if _, err := parseVersion(m.Version); err != nil {
			return err
		}
	}
	return nil
}

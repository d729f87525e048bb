package bus

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

type handlerFunc func(ctx context.Context, m *Message) ([]byte, error)

// Endpoint is a set of methods of one version. It is filled by HandleFunc and offered by Bus.Serve.
type Endpoint struct {
	// Namespace of its methods; Legacy are further ones that it serves.
	Namespace string
	Legacy    []string
	// Version it implements, "" = "1.0": it serves the same major and the same or a lower minor.
	Version string
	// Limit is how many of its handlers run at once, also while they wait; 0: no limit. Beyond, and when a call comes back
	// to an endpoint that waits for it, callers get ErrBusy.
	Limit int
	// Unbound handlers take no worker and are not queued: they bound themselves. A *BusyError that one returns is ErrBusy at its
	// caller: nothing ran.
	Unbound bool
	// Expect are errors that its callers know: see Expected.
	Expect []error

	mu      sync.Mutex
	methods map[string]handlerFunc
	version version
	running int
}

// HandleFunc gives ep a method. A bad name (also one with a leading _), a nil f and a method that ep has panic.
func HandleFunc(ep *Endpoint, method string, f func(ctx context.Context, m *Message) ([]byte, error)) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	switch {
	case !isName(method):
		panic(fmt.Sprintf("bus: method %q: want [a-z0-9][a-z0-9._-]{0,63}", method))
	case f == nil:
		panic("bus: method " + method + " with a nil function")
	case ep.methods[method] != nil:
		panic("bus: method " + method + " is there already")
	}
	if ep.methods == nil {
		ep.methods = map[string]handlerFunc{}
	}
	ep.methods[method] = f
}

func (ep *Endpoint) method(name string) handlerFunc {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	return ep.methods[name]
}

func (ep *Endpoint) names() (out []string) {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	for name := range ep.methods {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (ep *Endpoint) enter() bool {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if ep.running >= ep.Limit {
		return false
	}
	ep.running++
	return true
}

func (ep *Endpoint) leave() {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	ep.running--
}

func (ep *Endpoint) check(topic string) {
	v, err := parseVersion(ep.Version)
	switch {
	case err != nil:
		panic(err.Error())
	case ep.Namespace == baseNamespace || slices.Contains(ep.Legacy, baseNamespace):
		panic("bus: namespace " + baseNamespace + " is the bus's own")
	case ep.Namespace != "" && !isName(ep.Namespace):
		panic(fmt.Sprintf("bus: namespace %q of topic %s: want [a-z0-9][a-z0-9._-]{0,63}", ep.Namespace, topic))
	case ep.Limit < 0:
		panic("bus: a negative limit")
	}
	ep.version = v
}

// topics are what is served here.
type topics struct {
	mu sync.RWMutex
	m  map[string]*topic
}

// topic is a snapshot; it is replaced, not changed.
type topic struct {
	name string
	eps  []*Endpoint
}

func (s *topics) get(name string) *topic {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[name]
}

func (s *topics) served(name string) bool { return s.get(name) != nil }

func (s *topics) names() (out []string) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for name := range s.m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Serve offers endpoints at topic, topic@node and topic*, behind those that are there already; stop takes them away again. It
// panics for a bad name and when a method of an endpoint is offered already in the same namespace and major version.
func (b *Bus) Serve(topic string, eps ...*Endpoint) (stop func()) {
	if !isName(topic) {
		panic(fmt.Sprintf("bus: topic %q: want [a-z0-9][a-z0-9._-]{0,63}", topic))
	}
	for _, ep := range eps {
		ep.check(topic)
	}
	first := b.topics.add(topic, eps)
	if first && b.isRunning() {
		b.listen(topic)
	}
	var once sync.Once
	return func() {
		once.Do(func() {
			if b.topics.remove(topic, eps) {
				b.unlisten(topic)
			}
		})
	}
}

func (b *Bus) isRunning() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.phase == running
}

func (s *topics) add(name string, eps []*Endpoint) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = map[string]*topic{}
	}
	old := s.m[name]
	t := &topic{name: name}
	if old != nil {
		t.eps = slices.Clone(old.eps)
	}
	for _, ep := range eps {
		for _, have := range t.eps {
			if method := have.clashes(ep); method != "" {
				panic(fmt.Sprintf("bus: method %s of namespace %q, version %d is served twice at %s", method, ep.Namespace, ep.version.major, name))
			}
		}
		t.eps = append(t.eps, ep)
	}
	s.m[name] = t
	return old == nil
}

func (ep *Endpoint) clashes(other *Endpoint) string {
	if ep == other {
		return "all"
	}
	if ep.Namespace != other.Namespace || ep.version.major != other.version.major {
		return ""
	}
	for _, name := range other.names() {
		if ep.method(name) != nil {
			return name
		}
	}
	return ""
}

func (s *topics) remove(name string, eps []*Endpoint) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.m[name]
	if old == nil {
		return false
	}
	t := &topic{name: name, eps: slices.DeleteFunc(slices.Clone(old.eps), func(ep *Endpoint) bool { return slices.Contains(eps, ep) })}
	if len(t.eps) == 0 {
		delete(s.m, name)
		return true
	}
	s.m[name] = t
	return false
}

func (b *Bus) addresses(topic string) []Address {
	return []Address{{Topic: topic}, {Topic: topic, Node: b.node}, {Topic: topic, Fanout: true}}
}

func (b *Bus) listen(topic string) {
	for _, a := range b.addresses(topic) {
		b.open(a)
	}
}

func (b *Bus) unlisten(topic string) (closing []*inlet) {
	for _, a := range b.addresses(topic) {
		if i := b.close(a); i != nil {
			closing = append(closing, i)
		}
	}
	return closing
}

// find is the dispatcher: exactly one handler, of the first endpoint that fits and has the method.
func (t *topic) find(m *Message) (*Endpoint, handlerFunc, error) {
	v, err := parseVersion(m.Version)
	if err != nil {
		return nil, nil, err
	}
	fits := false
	for _, ep := range t.eps {
		if m.Namespace != ep.Namespace && !slices.Contains(ep.Legacy, m.Namespace) || !ep.version.serves(v) {
			continue
		}
		fits = true
		if f := ep.method(m.Method); f != nil && !strings.HasPrefix(m.Method, "_") {
			return ep, f, nil
		}
	}
	return nil, nil, &DispatchError{t.name, m.Namespace, m.Method, m.Version, fits}
}

// Served is what an endpoint offers, as Endpoints and describe tell it.
type Served struct {
	Topic     string   `json:"topic"`
	Namespace string   `json:"namespace"`
	Legacy    []string `json:"legacy,omitempty"`
	Version   string   `json:"version"`
	Limit     int      `json:"limit,omitempty"`
	Methods   []string `json:"methods"`
}

// Endpoints are what this node serves, by topic and in order of dispatch.
func (b *Bus) Endpoints() (out []Served) {
	for _, name := range b.topics.names() {
		out = append(out, b.topics.get(name).describe()...)
	}
	return out
}

func (t *topic) describe() (out []Served) {
	if t == nil {
		return nil
	}
	for _, ep := range t.eps {
		v := ep.Version
		if v == "" {
			v = "1.0"
		}
		out = append(out, Served{t.name, ep.Namespace, ep.Legacy, v, ep.Limit, ep.names()})
	}
	return out
}

package bus

import (
	"cmp"
	"slices"
	"sync"
)

// herd are goroutines that wait for the same thing; they are let go apart.
type herd struct {
	mu  sync.Mutex
	all []*waits
}

// waits is one of them, named after its work.
type waits struct {
	what string
	c    chan struct{} // closed when it may go
}

func (h *herd) join(what string) *waits {
	h.mu.Lock()
	defer h.mu.Unlock()
	w := &waits{what, make(chan struct{})}
	h.all = append(h.all, w)
	return w
}

func (h *herd) leave(w *waits) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = slices.DeleteFunc(h.all, func(x *waits) bool { return x == w })
}

func (h *herd) release(b *Bus) {
	h.mu.Lock()
	all := h.all
	h.all = nil
	h.mu.Unlock()
	slices.SortFunc(all, func(a, b *waits) int { return cmp.Compare(a.what, b.what) })
	apart(b, all, func(w *waits) string { return w.what }, func(w *waits) { close(w.c) })
}

package bus

import (
	"context"
	"fmt"
	"iter"
	"sync"
)

// Reply is what a message of a Scatter was answered.
type Reply struct {
	Body []byte
	Err  error
}

const defaultParallel = 16

// Scatter calls all of ms, parallel at a time (0 = 16), and yields each answer in order of ms as soon as it and all before it
// are known. Leaving the loop cancels what is under way. With OnReply each answer is told in order of arrival. What is not sent
// when ctx ends is ErrNotSent; a negative parallel is ErrInvalid in every reply.
func (b *Bus) Scatter(ctx context.Context, ms []*Message, parallel int, opts ...CallOption) iter.Seq2[int, Reply] {
	return func(yield func(int, Reply) bool) {
		if parallel < 0 {
			for i := range ms {
				if !yield(i, Reply{Err: invalid("Scatter of %d at a time", parallel)}) {
					return
				}
			}
			return
		}
		if parallel == 0 {
			parallel = defaultParallel
		}
		s := &scatter{b: b, ms: ms, o: optionsFrom(opts), replies: make([]Reply, len(ms)), known: make([]chan struct{}, len(ms))}
		for i := range s.known {
			s.known[i] = make(chan struct{})
		}
		ctx, cancel := context.WithCancelCause(ctx)
		defer s.workers.Wait()
		defer cancel(ErrCancelled)
		id := b.env.NewID()
		for w := range min(parallel, len(ms)) {
			s.workers.Add(1)
			b.env.Go(fmt.Sprintf("bus/scatter/%s/%d", id, w), func() { s.work(ctx) })
		}
		for i := range ms {
			<-s.known[i]
			if !yield(i, s.replies[i]) {
				return
			}
		}
	}
}

// scatter is one Scatter under way.
type scatter struct {
	b       *Bus
	ms      []*Message
	o       *callOptions
	replies []Reply
	known   []chan struct{}
	workers sync.WaitGroup

	mu    sync.Mutex
	next  int
	tells sync.Mutex
}

func (s *scatter) work(ctx context.Context) {
	defer s.workers.Done()
	for {
		s.mu.Lock()
		i := s.next
		s.next++
		s.mu.Unlock()
		if i >= len(s.ms) {
			return
		}
		r := Reply{}
		if ctx.Err() != nil {
			r.Err = ended(ctx, false)
		} else {
			r.Body, r.Err = s.b.begin(ctx, s.ms[i], KindCall, s.o)
		}
		s.replies[i] = r
		s.tell(i, r)
		close(s.known[i])
	}
}

func (s *scatter) tell(i int, r Reply) {
	if s.o.onReply == nil {
		return
	}
	s.tells.Lock()
	defer s.tells.Unlock()
	defer func() {
		if v := recover(); v != nil {
			s.b.count.panics.Add(1)
			s.b.log.Error("OnReply panicked", "panic", fmt.Sprint(v))
		}
	}()
	s.o.onReply(i, r)
}

package job

import (
	"context"
	"iter"
)

// Watch gives the present state of a job and then every later revision that this node sees, with rising Rev; some may be
// skipped, the final one is not, and it is the last. An error (ctx's, [ErrNotFound], the store's at the first look) ends it.
func (m *Manager) Watch(ctx context.Context, id string) iter.Seq2[*Job, error] {
	return func(yield func(*Job, error) bool) {
		w, j, err := m.watch(ctx, id)
		if err != nil {
			yield(nil, err)
			return
		}
		defer w.close()
		for yield(j, nil) && !j.State.Final() {
			n, err := w.next(ctx, j.Rev)
			if err != nil {
				yield(nil, err)
				return
			}
			j = n
		}
	}
}

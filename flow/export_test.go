package flow

// NoLimit lifts the limit on the number of steps.
func (f *Flow[S]) NoLimit() *Flow[S] {
	f.limit = 1 << 30
	return f
}

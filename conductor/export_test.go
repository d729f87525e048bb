package conductor

// Speak makes s serve one of drover's own stores in another version, with what older ones do not know, by method. Before Run.
func (s *Server) Speak(store, ver string, back map[string]Back) {
	t := table{}
	for name, m := range s.tables[store] {
		c := *m
		c.back = back[name]
		t[name] = &c
	}
	s.tables[store], s.serves[store] = t, ver
}

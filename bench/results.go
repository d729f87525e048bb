package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
)

// results is what a run leaves behind.
type results struct {
	Conditions *conditions `json:"conditions"`
	Rows       []row       `json:"rows"`
}

func (r results) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "id\tdrover\talternative\tratio\tlimit\tshare of limit\tmet\tbar\tworkload")
	for _, r := range r.Rows {
		if r.Error != "" {
			fmt.Fprintf(t, "%s\terror: %s\n", r.ID, r.Error)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%v\t%s\t%s\n", r.ID, figure(r.Drover, r.Unit), figure(r.Alternative, r.Unit), quotient(r.Ratio),
			figure(r.Limit, r.Unit), quotient(r.Share), r.Met, r.Bar, r.Workload)
		for _, k := range slices.Sorted(maps.Keys(r.More)) {
			fmt.Fprintf(t, "\t  %s: %.4g\n", k, r.More[k])
		}
	}
	_ = t.Flush()
	fmt.Fprintln(w, r.Conditions)
}

func figure(v []float64, unit string) string {
	if len(v) == 0 {
		return "-"
	}
	m := median(v)
	if m >= 1000 {
		return fmt.Sprintf("%.0f %s", m, unit)
	}
	return fmt.Sprintf("%.3g %s", m, unit)
}

func quotient(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", v)
}

func (r results) save(path string) error {
	if path == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

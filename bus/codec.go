package bus

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// JSON is the default codec: encoding/json, unknown fields ignored, at most 64 levels deep.
type JSON struct{}

const maxDepth = 64

// Name is json.
func (JSON) Name() string { return "json" }

// Marshal is json.Marshal.
func (JSON) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

// Unmarshal is json.Unmarshal for at most 64 levels.
func (JSON) Unmarshal(data []byte, v any) error {
	if err := depth(data); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// depth counts brackets outside strings.
func depth(data []byte) error {
	if len(data) <= maxDepth || bytes.Count(data, []byte{'['})+bytes.Count(data, []byte{'{'}) <= maxDepth {
		return nil
	}
	level, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if level++; level > maxDepth {
				return fmt.Errorf("more than %d levels deep", maxDepth)
			}
		case c == ']' || c == '}':
			level--
		}
	}
	return nil
}

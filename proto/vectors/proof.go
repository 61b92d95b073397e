package vectors

import "encoding/json"

// Proof is a proof of possession.
type Proof struct {
	Name       string          `json:"name"`
	Key        json.RawMessage `json:"key"` // private JWK
	Thumbprint string          `json:"thumbprint"`
	Act        string          `json:"act"` // the act that the proof is shown for
	Token      string          `json:"token"`
	Proof      string          `json:"proof"`
	N          uint64          `json:"n"`
	Refused    bool            `json:"refused"`
}

package token

import "github.com/usher-broker/usher/proto/strictjson"

// jsonRules are those of every JSON object that a token, a queue ticket or a proof
// contains. Members that are not read, such as those of ext, may be any JSON.
var jsonRules = strictjson.Rules{Duplicates: strictjson.RefuseReadDuplicates}

// decodeObject reads the object of a segment.
func decodeObject(segment string) (strictjson.Object, error) {
	b, err := decodeSegment(segment)
	if err != nil {
		return strictjson.Object{}, err
	}
	return jsonRules.Parse(b)
}

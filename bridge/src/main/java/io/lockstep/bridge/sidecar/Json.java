// Copyright (C) 2026 The Lockstep Authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

package io.lockstep.bridge.sidecar;

import com.google.gson.FieldNamingPolicy;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonElement;
import com.google.gson.JsonParseException;

/**
 * The JSON of the bridge API: records whose components are named in snake case on the wire.
 *
 * <p>A null component is written as {@code null}, so a request has a record of its own for each set
 * of fields. When reading, unknown fields are ignored and absent ones are null: the reader checks
 * the components that it needs.
 */
public final class Json {
  private static final Gson GSON =
      new GsonBuilder()
          .setFieldNamingPolicy(FieldNamingPolicy.LOWER_CASE_WITH_UNDERSCORES)
          .serializeNulls()
          .disableHtmlEscaping()
          .create();

  private Json() {}

  /** Writes a request with field names in snake case. Null fields are written, too. */
  public static String write(Object request) {
    return GSON.toJson(request);
  }

  /**
   * Reads a value that is a JSON object.
   *
   * @throws JsonParseException the text is not a JSON object, or a field has another type
   */
  public static <T> T read(String text, Class<T> type) {
    T value = GSON.fromJson(text, type);
    if (value == null) {
      throw new JsonParseException("empty");
    }
    return value;
  }

  /**
   * Reads a part of an answer.
   *
   * @throws JsonParseException it is not a JSON object, or a field has another type
   */
  public static <T> T read(JsonElement element, Class<T> type) {
    T value = GSON.fromJson(element, type);
    if (value == null) {
      throw new JsonParseException("null");
    }
    return value;
  }
}

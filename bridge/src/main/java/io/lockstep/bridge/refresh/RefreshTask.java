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

package io.lockstep.bridge.refresh;

import com.google.gson.annotations.SerializedName;

/**
 * A task of the bridge API. Which fields it has depends on its kind: the others are null.
 *
 * @param own whether commits of this node alone caused it; then Gerrit has probably done it already
 * @param old the value that was refreshed last; null if the ref did not exist
 * @param next the latest value; null if the ref is deleted
 */
record RefreshTask(
    Long id,
    Boolean own,
    String kind,
    String project,
    Boolean deleted,
    Integer number,
    String ref,
    Integer account,
    String group,
    String old,
    @SerializedName("new") String next) {
  /** The task in a few words, for {@code gerrit show-queue}. */
  @Override
  public String toString() {
    StringBuilder text = new StringBuilder(String.valueOf(kind).replace('_', ' '));
    append(text, " ", number);
    append(text, " ", account);
    append(text, " ", group);
    append(text, " ", ref);
    append(text, number == null && ref == null ? " " : " of ", project);
    return text.toString();
  }

  private static void append(StringBuilder text, String before, Object value) {
    if (value != null) {
      text.append(before).append(value);
    }
  }
}

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

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import com.google.gerrit.entities.Account;
import com.google.gerrit.entities.AccountGroup;
import com.google.gerrit.entities.BranchNameKey;
import com.google.gerrit.entities.Change;
import com.google.gerrit.entities.Project;
import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import io.lockstep.bridge.sidecar.Json;
import org.eclipse.jgit.lib.ObjectId;
import org.junit.jupiter.api.Test;

/** Reads the tasks of the bridge API, in the form of its documentation. */
final class RefreshTargetTest {
  private static final String A = "deadbeefdeadbeefdeadbeefdeadbeefdeadbeef";
  private static final RefreshTarget.Span CREATED =
      new RefreshTarget.Span(ObjectId.zeroId(), ObjectId.fromString(A));
  private static final String SPAN = ",'old':null,'new':'" + A + "'";
  private static final Project.NameKey P = Project.nameKey("p");

  private static RefreshTask task(String fields) {
    JsonElement task = JsonParser.parseString("{'id':1,'own':false,'attempt':1," + fields + "}");
    return Json.read(task, RefreshTask.class);
  }

  private static RefreshTarget read(String fields) {
    return RefreshTarget.of(task(fields));
  }

  @Test
  void everyKindIsRead() {
    assertEquals(
        new RefreshTarget.ProjectTarget(P, true),
        read("'kind':'project','project':'p','deleted':true,'exists':false"));
    assertEquals(
        new RefreshTarget.ConfigTarget(P, CREATED),
        read("'kind':'project_config','project':'p'" + SPAN));
    assertEquals(new RefreshTarget.AllChangesTarget(P), read("'kind':'changes','project':'p'"));
    assertEquals(
        new RefreshTarget.ChangeTarget(P, Change.id(7)),
        read("'kind':'change','project':'p','number':7"));
    assertEquals(
        new RefreshTarget.BranchTarget(BranchNameKey.create(P, "refs/heads/x")),
        read("'kind':'branch','project':'p','ref':'refs/heads/x'"));
    assertEquals(
        new RefreshTarget.AccountTarget(Account.id(9)), read("'kind':'account','account':9"));
    assertEquals(
        new RefreshTarget.GroupTarget(AccountGroup.uuid("u"), CREATED),
        read("'kind':'group','group':'u'" + SPAN));
    assertEquals(new RefreshTarget.GroupNamesTarget(CREATED), read("'kind':'group_names'" + SPAN));
    assertEquals(
        new RefreshTarget.ExternalIdsTarget(CREATED), read("'kind':'external_ids'" + SPAN));
  }

  @Test
  void anUnknownKindIsRefused() {
    assertThrows(RuntimeException.class, () -> read("'kind':'moon'"));
    assertThrows(RuntimeException.class, () -> read("'kind':'change','project':'p'"));
    assertThrows(RuntimeException.class, () -> read("'kind':'group_names','old':'x','new':null"));
  }

  @Test
  void aTaskIsNamedForAdministrators() {
    assertEquals("change 7 of p", task("'kind':'change','project':'p','number':7").toString());
    assertEquals(
        "project config p", task("'kind':'project_config','project':'p'" + SPAN).toString());
    assertEquals("account 9", task("'kind':'account','account':9").toString());
    assertEquals(
        "branch refs/heads/x of p",
        task("'kind':'branch','project':'p','ref':'refs/heads/x'").toString());
    assertEquals("external ids", task("'kind':'external_ids'" + SPAN).toString());
  }
}
